package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// act is one command that has ended, and what it tells.
type act struct {
	deed       string
	argv       []string
	begin, end time.Time
	answer     string // what its outcome is called
	facts      []fact
	// from and to are the names of a rename that was done or may have been.
	from, to string
}

func (a *act) String() string {
	return fmt.Sprintf("%q (%s to %s: %s)", strings.Join(a.argv, " "), clock(a.begin), clock(a.end), a.answer)
}

func clock(t time.Time) string { return t.Format("05.000") }

// fact is what a command tells of one register: something that can be on or
// off, like the presence of a name.
type fact struct {
	register string
	what     sense
}

// sense is what is told: that at some moment between the command's beginning
// and end the register was on or off, that it was turned, or that it may have
// been. Whoever turned it has also seen it so.
type sense uint8

const (
	sawOn sense = 1 << iota
	sawOff
	mayOn
	mayOff
	didOn  = sawOn | mayOn
	didOff = sawOff | mayOff
)

// span is an act as one register sees it.
type span struct {
	act  *act
	what sense
}

// spans sorts all facts by register, and adds what renames do: a command that
// has found a container by its old name does its work on the new one.
func spans(acts []act) map[string][]span {
	all := map[string][]span{}
	for i := range acts {
		for _, f := range acts[i].facts {
			all[f.register] = append(all[f.register], span{&acts[i], f.what})
		}
	}
	for again := true; again; {
		again = false
		for i := range acts {
			r := &acts[i]
			if r.to == "" {
				continue
			}
			for _, kind := range []string{"name ", "running "} {
				for _, s := range all[kind+r.from] {
					may := s.what & (mayOn | mayOff)
					if may == 0 || s.act == r || s.act.end.Before(r.begin) || r.end.Before(s.act.begin) {
						continue
					}
					if !slices.ContainsFunc(all[kind+r.to], func(h span) bool { return h.act == s.act && h.what&may == may }) {
						all[kind+r.to] = append(all[kind+r.to], span{s.act, may})
						again = true
					}
				}
			}
		}
	}
	return all
}

// contradictions finds what cannot be true: a register that was seen off
// although it had been on before, and nobody can have turned it off in the
// meantime, and the reverse.
func contradictions(acts []act) (found []string) {
	for register, all := range spans(acts) {
		slices.SortFunc(all, func(a, b span) int { return a.act.begin.Compare(b.act.begin) })
		for _, way := range []struct{ before, now, turn sense }{{sawOn, sawOff, mayOff}, {sawOff, sawOn, mayOn}} {
			for _, now := range all {
				if now.what&way.now == 0 {
					continue
				}
				// Of those that had ended before, the one that began last
				// leaves the least room.
				var before *span
				for i := range all {
					if b := &all[i]; b.what&way.before != 0 && b.act.end.Before(now.act.begin) && (before == nil || b.act.begin.After(before.act.begin)) {
						before = b
					}
				}
				if before == nil {
					continue
				}
				if !slices.ContainsFunc(all, func(s span) bool {
					return s.what&way.turn != 0 && !s.act.end.Before(before.act.begin) && !now.act.end.Before(s.act.begin)
				}) {
					found = append(found, fmt.Sprintf("%s: %s and then %s, and nothing between", register, before.act, now.act))
				}
			}
		}
	}
	slices.Sort(found)
	return found
}
