// Light or dark: as the system is, or as was chosen once.

export const THEMES = {
  auto: ["◐ Auto", "Colours as the system's"],
  dark: ["● Dark", "Dark colours"],
  light: ["○ Light", "Light colours"],
};

/** Let a button go through the themes, from what is `wanted`, or was kept; `onChosen()` is called when it is pressed. */
export function chooseTheme(button, wanted, onChosen) {
  let theme = "auto";
  const show = (name) => {
    theme = name;
    document.documentElement.dataset.theme = theme;
    [button.textContent, button.title] = THEMES[theme];
  };
  button.onclick = () => {
    const names = Object.keys(THEMES);
    show(names[(names.indexOf(theme) + 1) % names.length]);
    onChosen();
    keep(theme);
  };
  show([wanted, kept()].find((name) => Object.hasOwn(THEMES, name ?? "")) ?? "auto");
}

function kept() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // where nothing may be kept, it is chosen anew each time
  }
}

function keep(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // As above.
  }
}
