package engine

import "container/heap"

// alarm is something the leader must look at when a moment of cluster time has come.
type alarm struct {
	at    int64
	order uint64 // alarms of one moment ring in the order they were set
	ring  func(now int64)
}

// alarms is a heap of alarms. Alarms are not taken back: ring looks whether there still is something to do.
type alarms struct {
	heap  alarmHeap
	count uint64
}

func (a *alarms) set(at int64, ring func(now int64)) {
	a.count++
	heap.Push(&a.heap, alarm{at: at, order: a.count, ring: ring})
}

// next is the moment of the first alarm, 0 if there is none.
func (a *alarms) next() int64 {
	if len(a.heap) == 0 {
		return 0
	}
	return a.heap[0].at
}

// due rings every alarm whose moment has come.
func (a *alarms) due(now int64) {
	for len(a.heap) > 0 && a.heap[0].at <= now {
		heap.Pop(&a.heap).(alarm).ring(now)
	}
}

func (a *alarms) clear() { a.heap = nil }

type alarmHeap []alarm

func (h alarmHeap) Len() int { return len(h) }
func (h alarmHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h alarmHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *alarmHeap) Push(x any)   { *h = append(*h, x.(alarm)) }
func (h *alarmHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = alarm{}
	*h = old[:len(old)-1]
	return x
}
