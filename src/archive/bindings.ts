/**
 * @module
 * Bindings that a deployment may lack, and that are therefore not in its types.
 */

/** The connection string of a Hyperdrive binding, or null where it is not bound. */
export function connectionStringOf(
  env: object,
  name: "HYPERDRIVE" | "HYPERDRIVE_MAINTENANCE",
): string | null {
  const binding: unknown = Reflect.get(env, name);
  if (typeof binding !== "object" || binding === null) return null;
  const url: unknown = Reflect.get(binding, "connectionString");
  return typeof url === "string" && url !== "" ? url : null;
}
