/** An element with the given properties and children; a string among them becomes text, never HTML. */
export function element (name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

/** The element of the page with this id. */
export function byId (id) {
  return document.getElementById(id)
}

/** Sets an element's text if it is another: a screen reader would read out a live region again that is set to the same text. */
export function setText (target, text) {
  if (target.textContent !== text) target.textContent = text
}

/** Has a screen reader say this, once it has finished what it is saying. */
export function announce (text) {
  setText(byId('announcement'), text)
}
