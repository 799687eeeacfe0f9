/**
 * @module
 * The published vectors of the log's formats: RFC 6962 hashes, a signed
 * checkpoint, tile widths.
 */

/** The eight leaves of RFC 6962's reference tree. */
export const LEAVES = [
  "",
  "00",
  "10",
  "2021",
  "3031",
  "40414243",
  "5051525354555657",
  "606162636465666768696a6b6c6d6e6f",
].map((hex) => Uint8Array.from(Buffer.from(hex, "hex")));

/** Roots (hex) of the tree of the first n leaves. */
export const ROOTS: Readonly<Record<number, string>> = {
  0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

export const INCLUSION_5_IN_8 = [
  "vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=",
  "yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=",
  "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=",
];

export const CONSISTENCY_6_TO_8 = [
  "DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=",
  ...INCLUSION_5_IN_8.slice(1),
];

/** 32 × 0x01: a key for tests only. */
export const SEED = new Uint8Array(32).fill(1);
export const ORIGIN = "audit.example/log1";
export const VKEY = "audit.example/log1+72c3d033+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
export const CHECKPOINT = `audit.example/log1
8
XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=

— audit.example/log1 csPQM00QXIKRWu6OgtitDcyKHcNeOfNwebpWURLJGFFHX/ntOt409GogFdE43QpT4WtHyhdJhca4zyHpa8Yo7e4DIgA=
`;
