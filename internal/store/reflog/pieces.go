package reflog

// Piece is one piece of the directory of the references: a chunk of a main lane, or a block of a level of delayed lanes.
type Piece struct {
	File   string // "": it is in the image
	Offset int64  // of the block in the file
	Size   int64  // bytes of its body
	Level  int    // 0: a chunk of a main lane; else the level, the oldest is 1
	Key    Key    // the lane, of a block the first one
	// Lo and Hi are the positions of a chunk, [Lo, Hi); of a block Lo is the first position of the first lane, and Hi is 0.
	Lo, Hi      uint64
	First, Last uint64 // raft indexes
	Time        int64  // send time of the first message, Unix milliseconds
	Bytes       uint64 // of the messages of a chunk
	Runs, Lanes int
	Hole        bool // it was damaged when it was merged, and not repaired: nothing is there
}

// Pieces visits what the map has on the disk and in its image, main lanes first, until yield returns false. What was added
// since is not part of it.
func (l *Log) Pieces(yield func(Piece) bool) {
	v := l.current()
	name := func(number uint32) string {
		if f := v.file(number); f != nil {
			return f.Name
		}
		return ""
	}
	for _, m := range v.main {
		for i := range m.chunks {
			c := &m.chunks[i]
			p := Piece{
				File: name(c.file), Offset: int64(c.off), Size: int64(c.size), Key: Key{Shard: m.shard}, Lo: c.seq, Hi: c.end(),
				First: c.index, Last: c.last(), Time: c.time, Bytes: c.bytes, Runs: int(c.runs), Lanes: 1,
			}
			if !yield(p) {
				return
			}
		}
	}
	for n, lv := range v.levels {
		for i := range lv.blocks {
			e := &lv.blocks[i]
			p := Piece{
				File: name(lv.file), Offset: int64(e.off), Size: int64(e.size), Level: n + 1, Key: e.key, Lo: e.seq,
				First: e.index, Last: e.last(), Time: e.time, Runs: int(e.runs), Lanes: int(e.lanes), Hole: e.size == 0,
			}
			if lv.file == 0 {
				p.Size, p.Hole = int64(len(lv.bodies[i])), len(lv.bodies[i]) == 0
			}
			if !yield(p) {
				return
			}
		}
	}
}
