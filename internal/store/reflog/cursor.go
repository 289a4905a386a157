package reflog

import "errors"

// cursor goes through a level once, lane by lane, ascending. It reads only the blocks that may have what it is asked for.
type cursor struct {
	r  *reader
	lv *level
	i  int // the block it is at
}

// lane gives what the level has of a lane, block by block. Blocks for which skip, if not nil, says so are not read. A part
// that cannot be read is given as damage, with the entry it would have been in.
func (c *cursor) lane(k Key, skip func(e *entry) bool, f func(runs []Run, e *entry, damage *DamageError) error) error {
	for c.i+1 < len(c.lv.blocks) && c.lv.blocks[c.i+1].key.less(k) {
		c.i++
	}
	for ; c.i < len(c.lv.blocks) && !k.less(c.lv.blocks[c.i].key); c.i++ {
		e := &c.lv.blocks[c.i]
		if skip == nil || !skip(e) {
			runs, err := c.r.part(c.lv, c.i, k)
			var damage *DamageError
			if err != nil && !errors.As(err, &damage) {
				return err
			}
			if len(runs) > 0 || damage != nil {
				if err := f(runs, e, damage); err != nil {
					return err
				}
			}
		}
		// The next lane may begin in this block too.
		if c.i+1 == len(c.lv.blocks) || k.less(c.lv.blocks[c.i+1].key) {
			break
		}
	}
	return nil
}
