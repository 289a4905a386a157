package meta

import (
	"slices"
	"strings"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// nameKey is where the index of names has the queue: owner, NUL, name in lower case. Owners have no NUL.
func nameKey(owner, name string) string { return owner + "\x00" + cmq.FoldName(name) }

func validOwner(owner string) bool {
	return owner != "" && len(owner) <= maxString && !strings.Contains(owner, "\x00")
}

// nowTime is the latest batch time.
func (t *tables) nowTime() time.Time { return time.UnixMilli(t.now).UTC() }

func (t *tables) find(owner, name string) *cmq.Queue {
	if !cmq.ValidName(name) {
		return nil
	}
	id, ok := t.names.Get(nameKey(owner, name))
	if !ok {
		return nil
	}
	q, _ := t.queues.Get(id)
	return q
}

// insert puts a new queue into the table and every index that is derived from it.
func (t *tables) insert(q *cmq.Queue) {
	t.queues.Set(q.ID, q)
	t.names.Set(nameKey(q.Owner, q.Name), q.ID)
	t.owned.Set(q.Owner, with(t.owned, q.Owner, q.ID))
	t.bind(q.Attributes.DeadLetter.Queue, q.ID)
	for _, s := range q.Shards {
		t.addLoad(s.Set, 1)
	}
}

// remove takes the queue out of everything but load, which counts its shards until they are dropped.
func (t *tables) remove(q *cmq.Queue) {
	t.queues.Delete(q.ID)
	t.names.Delete(nameKey(q.Owner, q.Name))
	without(t.owned, q.Owner, q.ID)
	t.release(q.Attributes.DeadLetter.Queue, q.ID)
}

func (t *tables) addLoad(set cmq.SetID, n int) {
	old, _ := t.load.Get(set)
	t.load.Set(set, old+n)
}

// bind notes that source's dead letters go to the queue dlq, if that is not 0.
func (t *tables) bind(dlq, source cmq.QueueID) {
	if dlq == 0 {
		return
	}
	old, _ := t.sources.Get(dlq)
	at, found := slices.BinarySearch(old, source)
	if !found {
		t.sources.Set(dlq, slices.Insert(slices.Clone(old), at, source))
	}
}

// release undoes bind.
func (t *tables) release(dlq, source cmq.QueueID) {
	old, _ := t.sources.Get(dlq)
	at, found := slices.BinarySearch(old, source)
	switch {
	case !found:
	case len(old) == 1:
		t.sources.Delete(dlq)
	default:
		t.sources.Set(dlq, slices.Delete(slices.Clone(old), at, at+1))
	}
}

// isDeadLetter reports whether the dead letters of a queue, or what a subscription gives up, go to the queue.
func (t *tables) isDeadLetter(id cmq.QueueID) bool {
	_, ok := t.sources.Get(id)
	return ok || lenOf(t.mourners, id) > 0
}

func (s *State) createQueue(c *CreateQueue) Result {
	q, err := s.planQueue(c)
	if err != nil {
		return Result{Err: err}
	}
	s.nextQueue++
	s.insert(q)
	for _, shard := range q.Shards {
		s.tasks.Set(shard.ID, task{Kind: OpenShard, Set: shard.Set, Version: q.Version})
	}
	s.changed()
	return Result{Queue: q}
}

// planQueue makes all checks and the queue, and changes nothing.
func (s *State) planQueue(c *CreateQueue) (*cmq.Queue, *cmq.Error) {
	switch {
	case !cmq.ValidName(c.Name):
		return nil, cmq.ErrQueueName
	case !validOwner(c.Owner) || c.Shards < 1 || c.Shards > cmq.MaxShards:
		return nil, cmq.ErrParameters
	case s.find(c.Owner, c.Name) != nil:
		return nil, cmq.ErrQueueExists
	case lenOf(s.owned, c.Owner) >= s.maxQueues:
		return nil, cmq.ErrQueueLimit
	}
	attributes, err := s.change(nil, c.Owner, cmq.DefaultQueueAttributes(), &c.Settings)
	if err != nil {
		return nil, err
	}
	q := &cmq.Queue{
		ID: s.nextQueue, Name: c.Name, Owner: c.Owner, Attributes: attributes,
		Version: 1, Created: s.nowTime(), Modified: s.nowTime(),
	}
	if q.Shards = s.place(q.ID, c.Shards); q.Shards == nil {
		return nil, cmq.ErrInternal
	}
	return q, nil
}

// place chooses a set for each shard: the one with the least load, the lowest number among equals. It is nil
// when there is no data set.
func (s *State) place(id cmq.QueueID, shards int) []cmq.Shard {
	type candidate struct {
		set  cmq.SetID
		load int
	}
	var sets []candidate
	s.sets.Scan(func(set cmq.SetID, _ *cmq.Set) bool {
		if set != cmq.ControllerSet {
			load, _ := s.load.Get(set)
			sets = append(sets, candidate{set, load})
		}
		return true
	})
	if len(sets) == 0 {
		return nil
	}
	placed := make([]cmq.Shard, shards)
	for i := range placed {
		best := 0
		for j := range sets {
			if sets[j].load < sets[best].load {
				best = j
			}
		}
		placed[i] = cmq.Shard{ID: id.Shard(uint8(i)), Set: sets[best].set, Epoch: 1}
		sets[best].load++
	}
	return placed
}

// change gives the attributes after the settings, with all the rules about them. q is the queue, nil if it is
// being made.
func (s *State) change(q *cmq.Queue, owner string, a cmq.QueueAttributes, settings *cmq.QueueSettings) (cmq.QueueAttributes, *cmq.Error) {
	if err := checkSettings(settings); err != nil {
		return a, err
	}
	var dlq cmq.QueueID
	if settings.DeadLetter != nil {
		target := s.find(owner, settings.DeadLetter.Queue)
		if target == nil {
			return a, cmq.ErrDeadLetterNotExist
		}
		if err := s.mayBind(q, target); err != nil {
			return a, err
		}
		dlq = target.ID
	}
	if a, err := settings.Apply(a, dlq); err != nil || !a.Transaction.On || q == nil || !s.isDeadLetter(q.ID) {
		return a, err
	}
	return a, cmq.ErrNotAllowed
}

// mayBind checks that target may be the dead-letter queue of q (nil: of a queue being made): dead-letter queues
// have none themselves, are not transactional, and not too many queues share one.
func (s *State) mayBind(q, target *cmq.Queue) *cmq.Error {
	sources, _ := s.sources.Get(target.ID)
	others := len(sources)
	if q != nil {
		if q.ID == target.ID || s.isDeadLetter(q.ID) {
			return cmq.ErrDeadLetterNest
		}
		if q.Attributes.DeadLetter.Queue == target.ID {
			others--
		}
	}
	if err := mayTakeDead(target); err != nil {
		return err
	}
	if others >= s.maxSources {
		return cmq.ErrDeadLetterBinds
	}
	return nil
}

// mayTakeDead checks what a dead-letter queue must be by itself.
func mayTakeDead(target *cmq.Queue) *cmq.Error {
	switch {
	case target.Attributes.DeadLetter.Queue != 0:
		return cmq.ErrDeadLetterNest
	case target.Attributes.Transaction.On:
		return cmq.ErrDeadLetterParams
	}
	return nil
}

func (s *State) setQueue(c *SetQueue) Result {
	q := s.find(c.Owner, c.Name)
	if q == nil {
		return Result{Err: cmq.ErrQueueNotExist}
	}
	attributes, err := s.change(q, c.Owner, q.Attributes, &c.Settings)
	if err != nil {
		return Result{Err: err}
	}
	return Result{Queue: s.update(q, attributes)}
}

func (s *State) unbind(c *Unbind) Result {
	q := s.find(c.Owner, c.Name)
	switch {
	case q == nil:
		return Result{Err: cmq.ErrQueueNotExist}
	case q.Attributes.DeadLetter.Queue == 0:
		return Result{Err: cmq.ErrDeadLetterNotExist}
	}
	attributes := q.Attributes
	attributes.DeadLetter = cmq.DeadLetterPolicy{}
	return Result{Queue: s.update(q, attributes)}
}

// update replaces the attributes of q and leaves tasks to tell the shards if it concerns them.
func (s *State) update(q *cmq.Queue, a cmq.QueueAttributes) *cmq.Queue {
	u := *q
	u.Modified = s.nowTime()
	if a != q.Attributes {
		u.Attributes = a
		u.Version++
	}
	s.queues.Set(u.ID, &u)
	if old, now := q.Attributes.DeadLetter.Queue, a.DeadLetter.Queue; old != now {
		s.release(old, u.ID)
		s.bind(now, u.ID)
	}
	if q.Attributes.ShardAttributes() != a.ShardAttributes() {
		for _, shard := range u.Shards {
			s.changeShard(shard, u.Version)
		}
	}
	s.changed()
	return &u
}

func (s *State) deleteQueue(c *DeleteQueue) Result {
	q := s.find(c.Owner, c.Name)
	switch {
	case q == nil:
		return Result{Err: cmq.ErrQueueNotExist}
	case s.isDeadLetter(q.ID):
		return Result{Err: cmq.ErrDeadLetterInUse}
	}
	gone := *q
	gone.Version++
	s.remove(q)
	s.graves.Set(q.ID, &Grave{Queue: q.ID, Owner: q.Owner, Name: q.Name, Deleted: s.nowTime(), Shards: len(q.Shards)})
	for _, shard := range q.Shards {
		s.tasks.Set(shard.ID, task{Kind: DropShard, Set: shard.Set, Version: gone.Version})
	}
	s.changed()
	return Result{Queue: &gone}
}
