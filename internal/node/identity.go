package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/cespare/xxhash/v2"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/vfs"
)

// identity is what the file "identity.json" in a data directory says about its owner.
type identity struct {
	Cluster string     `json:"cluster"`
	Node    cmq.NodeID `json:"node"`
}

const identityFile = "identity.json"

// clusterID is the number by which nodes and log files of one cluster know each other.
func clusterID(name string) uint64 { return xxhash.Sum64String("cmq cluster " + name) }

// claim locks the data directory and makes sure that it is this node's.
func claim(fsys vfs.FS, dir string, want identity) (io.Closer, error) {
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s is in use by another cmq process; stop that one or choose another directory: %w", dir, err)
	}
	if err := identify(fsys, dir, want); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

func identify(fsys vfs.FS, dir string, want identity) error {
	name := filepath.Join(dir, identityFile)
	data, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return writeIdentity(fsys, dir, want)
	}
	if err != nil {
		return err
	}
	var have identity
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("%s cannot be read (%w); it says whose data this is: restore it from a backup, or write %s into it if you are sure", name, err, mustJSON(want))
	}
	if have != want {
		return fmt.Errorf("%s says that this directory belongs to node %d of cluster %q, not to node %d of cluster %q; give this node its own data directory", name, have.Node, have.Cluster, want.Node, want.Cluster)
	}
	return nil
}

func writeIdentity(fsys vfs.FS, dir string, want identity) error {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if filepath.Ext(n) == "" && len(n) > 4 && n[:4] == "set-" {
			return fmt.Errorf("%s holds %s but no %s: data of a node without its identity is not used; restore the file from a backup", dir, n, identityFile)
		}
	}
	if err := vfs.WriteFile(fsys, filepath.Join(dir, identityFile), append(mustJSON(want), '\n')); err != nil {
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
