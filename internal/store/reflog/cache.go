package reflog

import "sync"

// source says where an encoded body is: in memory, or in a file.
type source struct {
	body           []byte // nil: in the file
	file, off      uint32
	size, checksum uint32 // size of the body
	runs           int
}

func (s *source) id() cacheID {
	if s.body != nil {
		return cacheID{body: &s.body[0]}
	}
	return cacheID{file: s.file, off: s.off}
}

// cacheID names a body for as long as the cache holds it: the pointer keeps the memory from being used again, and a file
// has its number for itself.
type cacheID struct {
	body      *byte
	file, off uint32
}

// cache keeps the blocks used last.
type cache struct {
	mu    sync.Mutex
	limit int64
	used  int64
	nodes map[cacheID]*node
	root  node // of a ring; next is the one used last
}

type node struct {
	id         cacheID
	block      *block
	prev, next *node
}

func newCache(limit int64) *cache {
	c := &cache{limit: limit, nodes: make(map[cacheID]*node)}
	c.root.prev, c.root.next = &c.root, &c.root
	return c
}

func (c *cache) get(id cacheID) *block {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[id]
	if n == nil {
		return nil
	}
	n.unlink()
	c.link(n)
	return n.block
}

func (c *cache) put(id cacheID, b *block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[id] != nil {
		return
	}
	n := &node{id: id, block: b}
	c.nodes[id] = n
	c.link(n)
	c.used += b.size()
	for c.used > c.limit && c.root.prev != n {
		last := c.root.prev
		last.unlink()
		delete(c.nodes, last.id)
		c.used -= last.block.size()
	}
}

// empty lets go of everything.
func (c *cache) empty() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.nodes)
	c.used = 0
	c.root.prev, c.root.next = &c.root, &c.root
}

func (c *cache) link(n *node) {
	n.prev, n.next = &c.root, c.root.next
	n.prev.next, n.next.prev = n, n
}

func (n *node) unlink() { n.prev.next, n.next.prev = n.next, n.prev }
