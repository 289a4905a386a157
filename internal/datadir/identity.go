// Package datadir is the directory of one node: what lies where in it, whose it is, and who may use it.
//
//	identity.json   cluster and node                        (identity.go)
//	LOCK            locked while a process uses the directory
//	set-000         the replica of the controller's set     (package store)
//	set-001 …       the replicas of data sets
//
// Package node claims a directory; packages inspect and doctor look at one that may be anybody's.
package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/vfs"
)

// Names in a data directory.
const (
	IdentityName = "identity.json"
	LockName     = "LOCK"

	setPrefix = "set-"
)

// Identity says whose directory it is.
type Identity struct {
	Cluster string     `json:"cluster"` // its name
	Node    cmq.NodeID `json:"node"`
}

// ClusterID is the number by which nodes and files of one cluster know each other.
func ClusterID(name string) uint64 { return xxhash.Sum64String("cmq cluster " + name) }

// SetDir is where the replica of a set lies.
func SetDir(dir string, id cmq.SetID) string {
	return filepath.Join(dir, fmt.Sprintf("%s%03d", setPrefix, id))
}

// SetOf is the set whose directory has this name; ok is false for other names.
func SetOf(name string) (id cmq.SetID, ok bool) {
	digits, ok := strings.CutPrefix(name, setPrefix)
	n, err := strconv.ParseUint(digits, 10, 16)
	id = cmq.SetID(n)
	return id, ok && err == nil && id <= cmq.MaxSetID && filepath.Base(SetDir("", id)) == name
}

// Read reads whose directory it is. fs.ErrNotExist if it does not say so; other errors name the file.
func Read(fsys vfs.FS, dir string) (Identity, error) {
	name := filepath.Join(dir, IdentityName)
	data, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return Identity{}, err
	}
	var id Identity
	if err := json.Unmarshal(data, &id); err != nil {
		return Identity{}, &unreadable{name, err}
	}
	return id, nil
}

// unreadable is a file that does not say whose directory it is in.
type unreadable struct {
	name string
	err  error
}

func (e *unreadable) Error() string { return fmt.Sprintf("%s cannot be read: %v", e.name, e.err) }

// Claim locks the directory, makes it if it is not there, and makes sure that it is that node's. The lock ends with Close.
func Claim(fsys vfs.FS, dir string, want Identity) (io.Closer, error) {
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, LockName))
	if err != nil {
		return nil, fmt.Errorf("data directory %s is in use by another cmq process; stop that one or choose another directory: %w", dir, err)
	}
	if err := identify(fsys, dir, want); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

func identify(fsys vfs.FS, dir string, want Identity) error {
	name := filepath.Join(dir, IdentityName)
	have, err := Read(fsys, dir)
	var bad *unreadable
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return write(fsys, dir, want)
	case errors.As(err, &bad):
		return fmt.Errorf("%s cannot be read (%w); it says whose data this is: restore it from a backup, or write %s into it if you are sure", name, bad.err, mustJSON(want))
	case err != nil:
		return err
	case have != want:
		return fmt.Errorf("%s says that this directory belongs to node %d of cluster %q, not to node %d of cluster %q; give this node its own data directory", name, have.Node, have.Cluster, want.Node, want.Cluster)
	}
	return nil
}

func write(fsys vfs.FS, dir string, want Identity) error {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if _, ok := SetOf(n); ok {
			return fmt.Errorf("%s holds %s but no %s: data of a node without its identity is not used; restore the file from a backup", dir, n, IdentityName)
		}
	}
	if err := vfs.WriteFile(fsys, filepath.Join(dir, IdentityName), append(mustJSON(want), '\n')); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}
