package set

import (
	"bytes"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/vfs"
)

// rot flips a bit in each of the log's entries [lo, hi), wherever the disk has them.
func (c *trio) rot(m *member, fs vfs.FS, spans ...span) {
	for _, s := range spans {
		for i, index := range m.m.indexes {
			if index >= s.lo && index < s.hi {
				require.True(c.t, c.flip(m, fs, []byte(m.m.entries[i])), "entry %d", index)
			}
		}
	}
}

// flip flips a bit in the segment that has the text.
func (c *trio) flip(m *member, fs vfs.FS, text []byte) (found bool) {
	for _, name := range m.disk.Files() {
		if !strings.HasSuffix(name, ".seg") {
			continue
		}
		info, err := fs.Stat(strings.TrimPrefix(name, "/"))
		require.NoError(c.t, err)
		require.NoError(c.t, m.disk.Corrupt(name, 0, int(info.Size), func(p []byte) {
			if at := bytes.Index(p, text); at >= 0 {
				p[at+len(text)/2] ^= 0x80
				found = true
			}
		}))
	}
	return found
}

// bootDamaged starts a replica after entries of its log rotted.
func (c *trio) bootDamaged(id cmq.NodeID, spans ...span) {
	m := c.members[id]
	c.rot(m, m.disk.Mount(), spans...)
	c.boot(id)
}
