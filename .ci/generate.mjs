// Makes gen/ from proto/ and from the standard gRPC protos that npm packages carry. Offline; its output is committed.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync } from "node:fs";

const standard = [
  ["grpc-health-check/proto/health/v1/health.proto", "grpc/health/v1/health.proto"],
  ["@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto", "grpc/reflection/v1/reflection.proto"],
  ["@grpc/reflection/build/proto/grpc/reflection/v1alpha/reflection.proto", "grpc/reflection/v1alpha/reflection.proto"],
];

rmSync("build/proto", { recursive: true, force: true });
for (const [from, to] of standard) {
  mkdirSync(`build/proto/${to.slice(0, to.lastIndexOf("/"))}`, { recursive: true });
  cpSync(`node_modules/${from}`, `build/proto/${to}`);
}
execFileSync("buf", ["generate"], { stdio: "inherit" });
