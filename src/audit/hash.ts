/**
 * @module
 * What the pure parts ask of SHA-256. They take it as an argument, because the
 * fast implementation (`hash-node.ts`) does not run in a browser, and the
 * portable one (`hash-portable.ts`) is several times slower in the append path.
 */

/** Lowercase hex SHA-256. A string is hashed as UTF-8. */
export type Sha256Hex = (data: string | Uint8Array) => string;

/** SHA-256, 32 bytes. A string is hashed as UTF-8. */
export type Sha256 = (data: string | Uint8Array) => Uint8Array;
