package segment

// A footer ends a sealed segment, at the offset that the next segment's begin block names as the end of this one. It
// only saves reading the segment at start-up: if it is missing or unreadable the segment is scanned instead.
//
// Payload of a FOOTER record (header: index and term of the segment's last entry):
//
//	0   first     u64
//	8   prevTerm  u64
//	16  entries   u32   n
//	20  runs      u32   m
//	24  m × { first u64, term u64 }
//	..  n × offset u32, in units of 8 bytes
const footerHead = 24

func footerSize(entries, runs int) int {
	return recordSize + padded(footerHead+16*runs+4*entries) + commitSize
}

func (t *table) encodeFooter() []byte {
	p := make([]byte, 0, footerHead+16*len(t.runs)+4*len(t.offsets))
	p = le.AppendUint64(p, t.first)
	p = le.AppendUint64(p, t.prevTerm)
	p = le.AppendUint32(p, uint32(len(t.offsets)))
	p = le.AppendUint32(p, uint32(len(t.runs)))
	for _, r := range t.runs {
		p = le.AppendUint64(p, r.first)
		p = le.AppendUint64(p, r.term)
	}
	for _, o := range t.offsets {
		p = le.AppendUint32(p, o)
	}
	return p
}

// decodeFooter checks that the table is one that could be of a segment whose batches end at end.
func decodeFooter(p []byte, end int64) (t table, ok bool) {
	if len(p) < footerHead {
		return t, false
	}
	n, m := int(le.Uint32(p[16:])), int(le.Uint32(p[20:]))
	if len(p)-footerHead != 16*m+4*n || (n == 0) != (m == 0) {
		return t, false
	}
	t = table{first: le.Uint64(p), prevTerm: le.Uint64(p[8:])}
	p = p[footerHead:]
	for i := range m {
		r := run{first: le.Uint64(p[16*i:]), term: le.Uint64(p[16*i+8:])}
		if i == 0 && r.first != t.first || i > 0 && r.first <= t.runs[i-1].first || r.first-t.first >= uint64(n) {
			return t, false
		}
		t.runs = append(t.runs, r)
	}
	p = p[16*m:]
	t.offsets = make([]uint32, n)
	for i := range n {
		o := le.Uint32(p[4*i:])
		if int64(o)*align < headerSize || int64(o)*align+recordSize > end || i > 0 && o <= t.offsets[i-1] {
			return t, false
		}
		t.offsets[i] = o
	}
	return t, true
}
