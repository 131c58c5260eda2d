// Light or dark: as the system is, or as was chosen once.

import { keep, kept } from "./kept.js";

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
    keep("localStorage", "theme", theme);
  };
  show([wanted, kept("localStorage", "theme")].find((name) => Object.hasOwn(THEMES, name ?? "")) ?? "auto");
}
