/**
 * @module
 * The name of the federation benchmark's one tool, known on both sides.
 */
export const ECHO = "echo";
