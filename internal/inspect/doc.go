// Package inspect shows what is in a data directory: nodes and sets, segments, entries, images, references, the archive, and
// what of it belongs to which queue. It never writes: a set is opened on a vfs.Shadow, by the code with which a node opens
// it, so that what is shown is what the node would find; files are looked at one by one, as they lie on the disk.
//
// Damage is shown and not an end: a file that cannot be read is a Problem of its row, with file and offset.
//
// A running node may use the directory meanwhile. It is not disturbed, for nothing is locked; but files change while they are
// read, so opening is tried again when something seems wrong, and what is shown may be a moment old.
//
// Commands cmq inspect and, through package doctor, cmq doctor are the callers.
package inspect
