// Runs before the first paint, so that a dark page does not flash. The choice is kept on this machine.
(() => {
  let choice = null;
  try {
    choice = localStorage.getItem("fingerpost-theme");
  } catch {
    // storage may be forbidden; then the system decides
  }
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
})();
