package broker

import "math/bits"

// mix is one step of the running hash of all that was applied: of every batch its index and time, what its operations
// answered and handed out, where its messages were put, and the counters of the shards it touched. Two replicas
// whose sums differ at one index have gone different ways at some batch up to it, even if their states have met
// again. It is far cheaper than Digest, and finds what happened only in answers.
//
// Multiplying to 128 bits and folding spreads every bit of both numbers over the whole sum.
func mix(sum, v, w uint64) uint64 {
	hi, lo := bits.Mul64(sum^v^0xD1B54A32D192ED03, w^0x9E3779B97F4A7C15)
	return hi ^ lo ^ bits.RotateLeft64(sum, 23)
}

// addUp takes in a batch that was applied.
func (b *Broker) addUp(out *Output) {
	sum := mix(b.sum, b.index, uint64(b.time))
	for i := range out.Results {
		sum = mixResult(sum, &out.Results[i])
	}
	for i := range out.Placed {
		p := &out.Placed[i]
		sum = mix(sum, uint64(p.Shard), uint64(p.Lane))
		sum = mix(sum, p.Seq, uint64(p.Slot)|uint64(p.N)<<16)
		if p.Index != 0 {
			sum = mix(sum, p.Index, uint64(p.Bytes))
		}
	}
	for _, id := range out.Touched {
		if s := b.shards[id]; s != nil {
			b.warmUp(id, s)
			n := s.Numbers()
			for i := 0; i < len(n); i += 2 {
				sum = mix(sum, n[i], n[i+1])
			}
		}
	}
	b.sum = sum
}

func mixResult(sum uint64, r *Result) uint64 {
	sum = mix(sum, uint64(r.Shard), uint64(r.Kind)|uint64(r.FirstSlot)<<8|uint64(r.N)<<24)
	if r.Index != 0 {
		sum = mix(sum, r.Index, 0)
	}
	if r.Err != nil || r.Number != 0 {
		module := 0
		if r.Err != nil {
			module = r.Err.Module
		}
		sum = mix(sum, r.Number, uint64(module))
	}
	for i, err := range r.Errors {
		if err != nil {
			sum = mix(sum, uint64(i), uint64(err.Module))
		}
	}
	for _, n := range r.Numbers {
		sum = mix(sum, n, 0)
	}
	for _, q := range r.Queries {
		sum = mix(sum, uint64(q.ID), uint64(q.Count))
	}
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		sum = mix(sum, uint64(d.Lane)^uint64(d.Handle)<<1, d.Seq)
		sum = mix(sum, uint64(d.First)^uint64(d.Count)<<48, uint64(d.Deadline))
	}
	return sum
}

// Sum is a hash of everything applied so far: equal on all replicas that applied the same batches and got the same
// from them, and part of the image.
func (b *Broker) Sum() uint64 { return b.sum }
