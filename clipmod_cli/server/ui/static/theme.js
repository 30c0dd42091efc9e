// Runs before the page is drawn, so that it never flashes in the other colours. The toggle is in shell.js.
try {
  const theme = localStorage.getItem("clipmod.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // storage is forbidden: the device's own setting counts
}
