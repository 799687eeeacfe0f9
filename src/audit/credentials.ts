/**
 * @module
 * What a credential looks like: by the name of the key that holds it, and by
 * its own format. Agents choose both, so every test here takes time linear in
 * the text, whatever the text is.
 */

const NAME_WORDS = new Set([
  "password",
  "passwd",
  "secret",
  "token",
  "apikey",
  "authorization",
  "cookie",
  "credential",
  "credentials",
]);

const NAME_PAIRS = new Set(["api key", "private key"]);

/** Spares most keys the splitting; each listed word or pair contains one of these. */
const MAY_NAME = /pass|secret|token|api|authorization|cookie|private|credential/i;

/**
 * Whether a key names a credential: one of its words is `password`, `passwd`,
 * `secret`, `token`, `apikey`, `authorization`, `cookie`, `credential(s)`, or
 * two neighbours are `api` `key` or `private` `key`. Words end at characters
 * that are no letters or digits, and at a hump of camelCase. `accessToken` and
 * `X-API-Key` do; `max_tokens`, `author` and `monkey` do not.
 */
export function namesCredential(key: string): boolean {
  if (!MAY_NAME.test(key)) return false;
  const humps = key
    .replace(/([\p{Ll}\p{N}])(?=\p{Lu})/gu, "$1 ")
    .replace(/(\p{Lu})(?=\p{Lu}\p{Ll})/gu, "$1 ");
  // Also without humps: "passWord" and "APIkey" are spellings of one listed word.
  return holdsName(humps) || holdsName(key);
}

function holdsName(text: string): boolean {
  const words = text.toLowerCase().split(/[^\p{L}\p{N}]+/u);
  return words.some(
    (word, at) => NAME_WORDS.has(word) || NAME_PAIRS.has(`${word} ${words[at + 1] ?? ""}`),
  );
}

/**
 * Where a format with an ordinary beginning may start ("sk-" also ends "risk-",
 * "ag_" ends "flag_"): not after a letter or digit, unless those belong to an
 * escape such as `%3D` or `\n`.
 */
const START = "(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\\\[nrt]))";

/**
 * Known formats, as substrings. Each repetition has a bound, so that a failed
 * match costs a bounded number of steps at each position. The lengths are somewhat
 * below the real ones: to redact too much is the better error.
 */
const FORMATS = [
  // Private keys: PEM (PGP, OpenSSH, encrypted ones too), PuTTY, age.
  "-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY",
  "PuTTY-User-Key-File-[0-9]",
  "AGE-SECRET-KEY-1[A-Z0-9]{40}",
  // Atlas Gate: ag_<key id>_<secret>.
  `${START}ag_[A-Za-z0-9-]{1,64}_[A-Za-z0-9_-]{16}`,
  "ag_[A-Za-z0-9]{6,64}_[A-Za-z0-9-]{32}",
  // AWS key ids (long-lived, temporary).
  "A(?:KIA|SIA)[A-Z0-9]{16}",
  // GitHub, GitLab.
  "gh[pousr]_[A-Za-z0-9_]{20}",
  "github_pat_[A-Za-z0-9_]{20}",
  "gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat|ffct)-[A-Za-z0-9_-]{16}",
  // Slack.
  "xox[a-z]-[A-Za-z0-9-]{10}",
  "xapp-[0-9]-[A-Za-z0-9-]{10}",
  "hooks\\.slack\\.com/(?:services|workflows)/[A-Za-z0-9/]{16}",
  // Stripe, Shopify, Square, PayPal's Braintree.
  "[sr]k_(?:live|test)_[A-Za-z0-9]{10}",
  "whsec_[A-Za-z0-9+/]{16}",
  "shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{24}",
  "sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{20}",
  "access_token\\$(?:production|sandbox)\\$",
  // Google: API keys, OAuth access tokens and client secrets.
  "AIza[A-Za-z0-9_-]{30}",
  "ya29\\.[A-Za-z0-9_-]{20}",
  "GOCSPX-[A-Za-z0-9_-]{20}",
  // OpenAI, Anthropic and those that took over "sk-".
  "sk-(?:ant|proj|svcacct|or)-[A-Za-z0-9_-]{16}",
  "sk-[A-Za-z0-9]{32}",
  `${START}sk-[A-Za-z0-9_-]{20}`,
  // Other model providers.
  "hf_[A-Za-z0-9]{30}",
  "gsk_[A-Za-z0-9]{32}",
  "xai-[A-Za-z0-9]{40}",
  "pplx-[A-Za-z0-9]{32}",
  "r8_[A-Za-z0-9]{32}",
  // Package registries.
  "npm_[A-Za-z0-9]{20}",
  "pypi-AgE[A-Za-z0-9_-]{20}",
  "rubygems_[a-f0-9]{40}",
  "dckr_[a-z]{3}_[A-Za-z0-9_-]{20}",
  // Mail and messages.
  "SG\\.[A-Za-z0-9_-]{16,32}\\.[A-Za-z0-9_-]{16}",
  `${START}key-[a-f0-9]{32}`,
  `${START}SK[a-f0-9]{32}`,
  "[0-9]{8}:AA[A-Za-z0-9_-]{30}",
  // Clouds, infrastructure and tools.
  "cf(?:k|ut|at)_[A-Za-z0-9]{32}",
  "do[opr]_v1_[a-f0-9]{40}",
  "dapi[a-f0-9]{32}",
  "dp\\.[a-z]{2,5}\\.[A-Za-z0-9]{40}",
  "hv[bsr]\\.[A-Za-z0-9_-]{24}",
  "\\.atlasv1\\.[A-Za-z0-9_-]{40}",
  "AccountKey=[A-Za-z0-9+/]{40}",
  "gl(?:sa|c)_[A-Za-z0-9+/]{24}",
  "NRAK-[A-Z0-9]{24}",
  "PMAK-[a-f0-9]{20}",
  "sntry[su]_[A-Za-z0-9+/]{20}",
  "sb(?:p|_secret)_[A-Za-z0-9_-]{20}",
  "pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{20}",
  "lin_api_[A-Za-z0-9]{32}",
  "ntn_[A-Za-z0-9]{32}",
  "figd_[A-Za-z0-9_-]{20}",
  "ATATT3[A-Za-z0-9_-]{40}",
];

const KNOWN_FORMAT = new RegExp(FORMATS.join("|"));

/** Shortest header of a JSON Web Token that is taken for one: `{"alg":"x"}` in base64url has 15. */
const MIN_JWT_HEADER = 12;
const BASE64URL_RUN = /[A-Za-z0-9_-]*/y;

/**
 * Whether a text holds a JWT (RFC 7519, signed or encrypted): a header that
 * begins with `{"` in base64url, a dot, a part that may be empty, a dot. As one
 * expression this would scan a run again from each "eyJ" in it.
 */
function holdsJwt(text: string): boolean {
  let at = text.indexOf("eyJ");
  while (at !== -1) {
    const end = endOfRun(text, at);
    if (end - at >= MIN_JWT_HEADER && text[end] === "." && text[endOfRun(text, end + 1)] === ".") {
      return true;
    }
    at = text.indexOf("eyJ", end);
  }
  return false;
}

function endOfRun(text: string, from: number): number {
  BASE64URL_RUN.lastIndex = from;
  BASE64URL_RUN.test(text);
  return BASE64URL_RUN.lastIndex;
}

/** Whether a text holds, anywhere, a credential in a known format: a private key, a JWT, a vendor's key. */
export function holdsCredential(text: string): boolean {
  return holdsJwt(text) || KNOWN_FORMAT.test(text);
}
