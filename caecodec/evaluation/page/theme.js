// The theme that the reader chose; until then the system's.
{
  const choice = document.getElementById("theme");
  choice.addEventListener("change", () => {
    document.documentElement.dataset.theme = choice.value;
    document.dispatchEvent(new Event("theme"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));
}
