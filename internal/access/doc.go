// Package access is what all doors share: the actions of the API by name, the interface through which a door
// asks for them, request ids, the rules of long polling and what a failure is called towards a client.
//
// A door (httpapi and its siblings) parses, authenticates, calls the Backend and renders the answer. It knows
// nothing of sets, logs or leaders; route implements the Backend.
package access
