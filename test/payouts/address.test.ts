// Addresses that money can go to: the known good, and everything that differs from them by a slip.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addressProblem, maskAddress } from "../../src/payouts/address.js";

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

// TRON: the contracts of USDT, USDC, WTRX and TUSD. Hex: the examples of EIP-55.
const tron = [
  "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
  "TEkxiTehnzSmSe2XqrBj4w32RUN966rdz8",
  "TNUC9Qb1rRpS5CbWLmNMxXBjyFoydXjWFR",
  "TUpMhErZL2fhh4sVNULAbNKLokS4GjC1F4",
];
const hex = [
  "0x52908400098527886E0F7030069857D2E4169EE7",
  "0xde709f2102306220921060314715629080e2fb77",
  "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
  "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
  "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
  "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
];
const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

describe(`an address (seed ${seed})`, () => {
  test.each([...tron, ...hex])("%s is good", (address) => {
    expect(addressProblem(address)).toBeUndefined();
  });

  test("with any one character changed is refused", () => {
    const slip = fc.record({
      address: fc.constantFrom(...tron),
      place: fc.integer({ min: 0, max: 33 }),
      character: fc.constantFrom(...base58),
    });
    fc.assert(
      fc.property(slip, ({ address, place, character }) => {
        fc.pre(address[place] !== character);
        expect(addressProblem(address.slice(0, place) + character + address.slice(place + 1))).toBeDefined();
      }),
      { seed, numRuns: 500 },
    );
  });

  test("with two neighbours swapped is refused", () => {
    for (const address of tron) {
      for (let place = 1; place < address.length - 1; place++) {
        const [one, two] = [address[place], address[place + 1]];
        if (one === two) continue;
        expect(addressProblem(address.slice(0, place) + two + one + address.slice(place + 2))).toBeDefined();
      }
    }
  });

  test("in mixed case is held to its checksum", () => {
    for (const address of hex.slice(2)) {
      const place = [...address].findIndex((character, at) => at > 1 && /[a-f]/.test(character));
      const raised = address.slice(0, place) + (address[place] ?? "").toUpperCase() + address.slice(place + 1);
      expect(addressProblem(raised)).toContain("EIP-55");
      expect(addressProblem(`0x${address.slice(2).toLowerCase()}`)).toBeUndefined();
    }
  });

  test.each([
    "",
    "T",
    "0x",
    " TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
    "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t ",
    "tR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
    "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj60",
    "T000000000000000000000000000000000",
    "T".repeat(34),
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed0",
    "0X5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xzzzeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
  ])("%j is refused", (address) => {
    expect(addressProblem(address)).toBeDefined();
  });

  test("no text whatever is an error", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 60 }), (text) => {
        expect(["string", "undefined"]).toContain(typeof addressProblem(text));
      }),
      { seed },
    );
  });

  test("is shown by its first and last four characters", () => {
    expect(maskAddress(tron[0] ?? "")).toBe("TR7N…Lj6t");
    expect(maskAddress(hex[0] ?? "")).toBe("0x52…9EE7");
  });
});
