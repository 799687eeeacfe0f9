// Loaded with --import into `wrangler dev`: it leads a process group of its
// own, and takes that group down when the process that started it is gone,
// even killed, so that no orphan keeps the port.
process.on("disconnect", () => {
  try {
    process.kill(-process.pid, "SIGKILL");
  } catch {
    process.exit(1);
  }
});
