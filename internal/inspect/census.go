package inspect

import (
	"strings"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// Census is what the state of the set needs of the messages. A message that was published is counted for each shard that
// refers to it: to know which ones were counted before would take memory for all of them.
type Census struct {
	Applied uint64           // index of the last entry that is in it
	Partial error            // why that is not the last entry of the log
	Files   map[string]int64 // bytes that are needed, by file; more than there are if several shards need the same
	Shards  map[cmq.ShardID]Share
	Lost    []Problem // references that cannot be read: what they name is not counted
	Nowhere uint64    // messages that are needed and that no file has
}

// Share is what one shard needs.
type Share struct {
	Messages   uint64
	Bytes      int64
	InSegments int64 // those of the bytes that lie in segments; the others are in files of messages
}

// Census counts, for each file and each shard, what is still needed. It reads the references, and no message. An error says why
// it cannot be known.
func (s *Set) Census() (*Census, error) {
	c := &Census{Files: map[string]int64{}, Shards: map[cmq.ShardID]Share{}}
	if !s.isData() {
		return c, nil
	}
	if c.Partial = s.Load(); s.machine == nil {
		return nil, c.Partial
	}
	c.Applied = s.applied
	atlas, err := s.atlas()
	if err != nil {
		return nil, err
	}
	defer atlas.close()
	err = s.machine.Census(func(k reflog.Key, r reflog.Run) error {
		share := c.Shards[cmq.ShardID(k.Shard)]
		share.Messages += uint64(r.N)
		share.Bytes += int64(r.Bytes)
		switch file := atlas.find(r.Index, r.Slot); {
		case file == "":
			c.Nowhere += uint64(r.N)
		case strings.HasSuffix(file, archive.Suffix):
			c.Files[file] += int64(r.Bytes)
		default:
			c.Files[file] += int64(r.Bytes)
			share.InSegments += int64(r.Bytes)
		}
		c.Shards[cmq.ShardID(k.Shard)] = share
		return nil
	}, func(d *reflog.DamageError) {
		p := problemOf(d, s.Dir)
		p.remedy(s.machine.References(), d)
		c.Lost = append(c.Lost, p)
	})
	return c, err
}

// Weigh fills in what of segments is alive and what is dead.
func (s *Set) Weigh(c *Census, list []Segment) {
	if !s.isData() {
		return
	}
	for i := range list {
		seg := &list[i]
		live := min(c.Files[seg.File], seg.Used)
		dead := seg.Used - live
		if seg.State != StateMissing {
			seg.Live, seg.Dead = &live, &dead
		}
	}
}

// DeadInArchive is how many bytes of the files of messages are no message that is needed.
func (s *Set) DeadInArchive(c *Census) (dead int64) {
	for _, info := range s.Contents.Files {
		dead += max(info.Bytes-c.Files[info.Name()], 0)
	}
	return dead
}
