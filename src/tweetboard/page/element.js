// What all of the page is made of. Whatever comes from the stream is put in as text, here and everywhere.

/** Make an element with a class and what is in it: elements and texts. */
export function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}
