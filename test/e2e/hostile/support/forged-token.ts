/**
 * @module
 * JSON Web Tokens that no library would make.
 */
import { createHmac, generateKeyPairSync, type KeyObject, sign } from "node:crypto";

/** A token of these parts, which need not fit each other. */
export function jwt(header: unknown, claims: unknown, signature = ""): string {
  return `${part(header)}.${part(claims)}.${signature}`;
}

/** Signed with a shared secret, whatever the header says. */
export function hmacJwt(header: object, claims: unknown, secret: string | Buffer): string {
  const input = `${part(header)}.${part(claims)}`;
  const alg = Reflect.get(header, "alg");
  const hash = alg === "HS512" ? "sha512" : alg === "HS384" ? "sha384" : "sha256";
  return `${input}.${createHmac(hash, secret).update(input).digest("base64url")}`;
}

/** Somebody with a key pair that no issuer has published. */
export class Stranger {
  readonly #privateKey: KeyObject;
  /** As a JWK. */
  readonly publicJwk: object;
  /** DER of its public key, base64: what an `x5c` would hold. */
  readonly certificate: string;

  constructor() {
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    this.#privateKey = privateKey;
    this.publicJwk = publicKey.export({ format: "jwk" });
    this.certificate = publicKey.export({ format: "der", type: "spki" }).toString("base64");
  }

  jwt(header: object, claims: unknown): string {
    const input = `${part({ alg: "RS256", typ: "at+jwt", ...header })}.${part(claims)}`;
    return `${input}.${sign("sha256", Buffer.from(input), this.#privateKey).toString("base64url")}`;
  }
}

function part(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return Buffer.from(text).toString("base64url");
}
