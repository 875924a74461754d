/** Creates an element with properties and children. Strings become text nodes, never HTML. */
export function element (name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

/** Short for `document.getElementById`. */
export function byId (id) {
  return document.getElementById(id)
}

/** Sets an element's text if it differs: a screen reader reads out a live region again if it is set to the same text. */
export function setText (target, text) {
  if (target.textContent !== text) target.textContent = text
}

/** Announces a text to screen readers, without interrupting them. */
export function announce (text) {
  setText(byId('announcement'), text)
}
