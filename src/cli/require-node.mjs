// Loaded with --import before anything else, in a form that every Node can read:
// an old Node says so in one line instead of failing on the first type.
const LEAST = [22, 18];
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < LEAST[0] || (major === LEAST[0] && minor < LEAST[1])) {
  console.error(
    `Atlas Gate needs Node ${LEAST.join(".")} or later; this is ${process.versions.node}. ` +
      "`npm ci` brings a current one, which the npm scripts use.",
  );
  process.exit(1);
}
