/**
 * @module
 * Ed25519 (RFC 8032) by Web Crypto, which Workers, Node and browsers have.
 */
import { concatBytes, decodeBase64 } from "./bytes.ts";

export const ED25519_KEY_BYTES = 32;
export const ED25519_SIGNATURE_BYTES = 64;

/** PKCS #8 (RFC 8410) around a 32-byte seed: the one private form that Web Crypto imports. */
const PKCS8_PREFIX = Uint8Array.of(
  ...[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04],
  0x20,
);

export type Ed25519Key = {
  readonly publicKey: Uint8Array;
  readonly sign: (message: Uint8Array) => Promise<Uint8Array>;
};

/** The key of a 32-byte seed. */
export async function importSeed(seed: Uint8Array): Promise<Ed25519Key> {
  if (seed.length !== ED25519_KEY_BYTES) throw new RangeError("a seed has 32 bytes");
  const key = await crypto.subtle.importKey(
    "pkcs8",
    concatBytes(PKCS8_PREFIX, seed),
    "Ed25519",
    true,
    ["sign"],
  );
  const jwk = await crypto.subtle.exportKey("jwk", key);
  const x = "x" in jwk && typeof jwk.x === "string" ? jwk.x : "";
  const publicKey = decodeBase64(`${x.replaceAll("-", "+").replaceAll("_", "/")}=`);
  if (publicKey?.length !== ED25519_KEY_BYTES)
    throw new Error("the platform exports no public key");
  return {
    publicKey,
    sign: async (message) =>
      new Uint8Array(await crypto.subtle.sign("Ed25519", key, Uint8Array.from(message))),
  };
}

/** Whether a signature holds; false for a public key that is no point, too. */
export async function verifyEd25519(
  publicKey: Uint8Array,
  signature: Uint8Array,
  message: Uint8Array,
): Promise<boolean> {
  if (publicKey.length !== ED25519_KEY_BYTES) return false;
  if (signature.length !== ED25519_SIGNATURE_BYTES) return false;
  let key: CryptoKey;
  try {
    key = await crypto.subtle.importKey("raw", Uint8Array.from(publicKey), "Ed25519", false, [
      "verify",
    ]);
  } catch {
    // The only thing that can be wrong with 32 bytes: they are not a public key.
    return false;
  }
  return crypto.subtle.verify("Ed25519", key, Uint8Array.from(signature), Uint8Array.from(message));
}
