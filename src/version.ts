/** The gateway's version, as clients and records see it. */
export const VERSION = "0.1.0";
