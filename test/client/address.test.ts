// Addresses as people write them, and the address at which a service that listens on a host is reached.
import { describe, expect, test } from "vitest";
import { localUrl, serviceUrl, sessionOptions } from "../../src/client/address.js";

describe("an address of a service", () => {
  test.each([
    ["http://localhost:8083", "http://localhost:8083"],
    ["localhost:8083", "http://localhost:8083"],
    [" localhost:8083\n", "http://localhost:8083"],
    ["localhost", "http://localhost"],
    ["127.0.0.1:8083", "http://127.0.0.1:8083"],
    ["https://node-management.example/", "https://node-management.example"],
    ["https://gateway.example/lucid/", "https://gateway.example/lucid"],
    ["HTTP://Host:1", "http://host:1"],
    ["[::1]:8083", "http://[::1]:8083"],
    ["http://[::1]:8083", "http://[::1]:8083"],
    ["::1", "http://[::1]"],
  ])("%j is %s", (text, url) => {
    expect(serviceUrl(text)).toBe(url);
  });

  test.each([
    "",
    "http://",
    "http://:8083",
    "ftp://host",
    "grpc://host:8083",
    "unix:///run/lucid.sock",
    "host:port",
    "host:99999",
    "http://::1:8083",
    "::1:8083:",
    "http://user:hunter2@host",
    "http://host?x=1",
    "http://host#x",
    "a b",
  ])("%j is none", (text) => {
    expect(serviceUrl(text)).toBeUndefined();
  });
});

describe("a service on this machine", () => {
  test.each([
    ["127.0.0.1", "http://127.0.0.1:8083"],
    ["0.0.0.0", "http://127.0.0.1:8083"],
    ["::", "http://[::1]:8083"],
    ["0:0:0:0:0:0:0:0", "http://[::1]:8083"],
    ["::1", "http://[::1]:8083"],
    ["2001:db8::7", "http://[2001:db8::7]:8083"],
    ["localhost", "http://localhost:8083"],
    ["node-1.lucid", "http://node-1.lucid:8083"],
  ])("that listens on %s is reached at %s", (host, url) => {
    expect(localUrl({ host, port: 8083, tls: false })).toBe(url);
    expect(localUrl({ host, port: 8083, tls: true })).toBe(url.replace("http:", "https:"));
  });
});

test("an IPv6 address stands in brackets where there is no certificate's name", () => {
  expect(sessionOptions("http://[::1]:8083")).toEqual({ servername: "[::1]" });
  expect(sessionOptions("https://[::1]:8083")).toEqual({});
  expect(sessionOptions("http://127.0.0.1:8083")).toEqual({});
});
