/**
 * @module
 * How a client proves itself to an authorization server (RFC 6749, section 2.3.1).
 */

/** The value of `Authorization` for HTTP Basic: both parts are form-encoded first. */
export function basicCredentials(clientId: string, clientSecret: string): string {
  const pair = `${formEncoded(clientId)}:${formEncoded(clientSecret)}`;
  return `Basic ${Buffer.from(pair, "utf8").toString("base64")}`;
}

function formEncoded(text: string): string {
  return new URLSearchParams({ v: text }).toString().slice("v=".length);
}
