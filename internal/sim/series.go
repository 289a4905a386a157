package sim

import (
	"fmt"
	"slices"
	"time"
)

// twiceEvery is how many seeds apart a seed is simulated twice, to see that it is the same run both times.
const twiceEvery = 50

// Summary adds up the results of many seeds.
type Summary struct {
	Seeds      int            `json:"seeds"`
	Twice      int            `json:"twice"` // seeds run a second time; their hashes were equal or it is in Failed
	Failed     []Failure      `json:"failed"`
	Vacuous    map[string]int `json:"vacuous"` // runs that prove little, by reason
	Events     int            `json:"events"`
	Simulated  float64        `json:"simulatedSeconds"`
	Seconds    float64        `json:"seconds"` // real ones, set by the caller
	OK         int            `json:"ok"`
	Fail       int            `json:"fail"`
	Info       int            `json:"info"`
	Messages   int            `json:"messages"`
	Deliveries int            `json:"deliveries"`
	Faults     map[string]int `json:"faults"`
	Hits       map[string]int `json:"hits"`
}

// Failure is one seed that broke a promise.
type Failure struct {
	Seed       uint64   `json:"seed"`
	Replay     string   `json:"replay"`
	Violations []string `json:"violations"`
}

// NewSummary is the sum of nothing.
func NewSummary() *Summary {
	return &Summary{Failed: []Failure{}, Vacuous: map[string]int{}, Faults: map[string]int{}, Hits: map[string]int{}}
}

// Run simulates one seed and adds its result. Every 50th seed runs twice: a difference means that something does not
// follow from the seed, such as the order of a map or the time of day.
func (s *Summary) Run(c Config) *Result {
	r := Run(c)
	if c.Seed%twiceEvery == 0 {
		s.Twice++
		again := c
		again.Trace, again.History = nil, nil
		if second := Run(again); second.Hash != r.Hash {
			r.Violations = append(r.Violations, fmt.Sprintf("determinism: the second run of the seed differs: hash %x after %d events, not %x after %d",
				second.Hash, second.Events, r.Hash, r.Events))
		}
	}
	s.add(c, r)
	return r
}

func (s *Summary) add(c Config, r *Result) {
	if len(r.Violations) > 0 {
		s.Failed = append(s.Failed, Failure{c.Seed, c.Replay(), r.Violations})
	}
	for _, why := range r.Vacuous {
		s.Vacuous[why]++
	}
	s.Merge(&Summary{
		Seeds: 1, Events: r.Events, Simulated: r.Simulated.Seconds(), OK: r.OK, Fail: r.Fail, Info: r.Info,
		Messages: r.Messages, Deliveries: r.Deliveries, Faults: r.Faults, Hits: r.Hits,
	})
}

// Merge adds another sum, but for its real seconds.
func (s *Summary) Merge(o *Summary) {
	s.Seeds += o.Seeds
	s.Twice += o.Twice
	s.Failed = append(s.Failed, o.Failed...)
	slices.SortFunc(s.Failed, func(a, b Failure) int {
		if a.Seed < b.Seed {
			return -1
		}
		return 1
	})
	s.Events += o.Events
	s.Simulated += o.Simulated
	s.OK, s.Fail, s.Info = s.OK+o.OK, s.Fail+o.Fail, s.Info+o.Info
	s.Messages += o.Messages
	s.Deliveries += o.Deliveries
	sum(s.Vacuous, o.Vacuous)
	sum(s.Faults, o.Faults)
	sum(s.Hits, o.Hits)
}

func sum(into, from map[string]int) {
	for name, n := range from {
		into[name] += n
	}
}

// Rows describe the sum for people.
func (s *Summary) Rows() [][]string {
	operations := s.OK + s.Fail + s.Info
	seconds := max(s.Seconds, time.Millisecond.Seconds())
	rows := [][]string{
		{"seeds", fmt.Sprintf("%d, %d failed, %d simulated twice", s.Seeds, len(s.Failed), s.Twice)},
		{"speed", fmt.Sprintf("%.1f seeds/s, %.0f events/s, %.0f s simulated in %.1f s", float64(s.Seeds)/seconds, float64(s.Events)/seconds, s.Simulated, s.Seconds)},
		{"operations", fmt.Sprintf("%d: %d ok, %d fail, %d info; %d messages, %d deliveries", operations, s.OK, s.Fail, s.Info, s.Messages, s.Deliveries)},
		{"faults", counts(s.Faults)},
		{"also", counts(s.Hits)},
	}
	if len(s.Vacuous) > 0 {
		rows = append(rows, []string{"vacuous", counts(s.Vacuous)})
	}
	return rows
}

// counts lists names with their numbers, in the order of the names.
func counts(m map[string]int) string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	s := ""
	for i, name := range names {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%s %d", name, m[name])
	}
	return s
}
