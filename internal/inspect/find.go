package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/vfs"
)

// Node is one node's data directory.
type Node struct {
	Dir      string
	Identity datadir.Identity // zero if Unknown says why
	Unknown  error            // whose directory it is cannot be read
	PID      int              // of the process that uses the directory; 0: none, as far as this process may know
	Sets     []SetDir         // ascending
	Strange  []string         // names in the directory that are not a node's

	fs vfs.FS
}

// SetDir is the directory of a replica.
type SetDir struct {
	ID  cmq.SetID
	Dir string
}

// ErrNoData says that nothing of cmq is in a directory.
var ErrNoData = errors.New("no data of cmq is there")

// Find finds the nodes in a directory: it may be that of one node, that of a cluster of cmq dev with the nodes' directories in it,
// or that of a single replica. ErrNoData if it is none of them.
func Find(fsys vfs.FS, dir string) ([]*Node, error) {
	info, err := fsys.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if !info.Dir {
		return nil, fmt.Errorf("%s is a file; give the data directory it lies in", dir)
	}
	if n, err := nodeIn(fsys, dir); n != nil || err != nil {
		return []*Node{n}, err
	}
	if n, err := replicaIn(fsys, dir); n != nil || err != nil {
		return []*Node{n}, err
	}
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var nodes []*Node
	for _, name := range names {
		if !strings.HasPrefix(name, "node") {
			continue
		}
		n, err := nodeIn(fsys, filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if n != nil {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("%s: %w: neither %s nor a directory set-NNN or node1 is in it; give the data_dir of a node, or the --data-dir of cmq dev", dir, ErrNoData, datadir.IdentityName)
	}
	return nodes, nil
}

// nodeIn reads the directory of a node; nil if it is none.
func nodeIn(fsys vfs.FS, dir string) (*Node, error) {
	info, err := fsys.Stat(dir)
	if err != nil || !info.Dir {
		return nil, err
	}
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	n := &Node{Dir: dir, fs: fsys}
	for _, name := range names {
		id, ok := datadir.SetOf(name)
		switch {
		case ok:
			n.Sets = append(n.Sets, SetDir{ID: id, Dir: filepath.Join(dir, name)})
		case name != datadir.IdentityName && name != datadir.LockName:
			n.Strange = append(n.Strange, name)
		}
	}
	if len(n.Sets) == 0 && !slices.Contains(names, datadir.IdentityName) {
		return nil, nil
	}
	n.identify()
	return n, nil
}

// replicaIn reads the directory of one replica; nil if it is none.
func replicaIn(fsys vfs.FS, dir string) (*Node, error) {
	owner, err := store.Owner(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := &Node{Dir: filepath.Dir(dir), fs: fsys, Sets: []SetDir{{ID: cmq.SetID(owner.Set), Dir: dir}}}
	n.identify()
	return n, nil
}

// identify finds out whose directory it is, and who uses it.
func (n *Node) identify() {
	n.Identity, n.Unknown = datadir.Read(n.fs, n.Dir)
	if errors.Is(n.Unknown, fs.ErrNotExist) {
		n.Unknown = fmt.Errorf("%s is missing; restore it from a backup", filepath.Join(n.Dir, datadir.IdentityName))
	}
	n.PID, _ = vfs.Holder(filepath.Join(n.Dir, datadir.LockName)) // where nobody tells, what is read is checked all the same
}

// owner is who should own the files of a set's directory: what the node's identity says, or else the files themselves.
func (n *Node) owner(s SetDir) (checkpoint.Identity, error) {
	if n.Unknown == nil {
		return checkpoint.Identity{Cluster: datadir.ClusterID(n.Identity.Cluster), Set: uint16(s.ID), Replica: uint64(n.Identity.Node)}, nil
	}
	return store.Owner(n.fs, s.Dir)
}
