package statetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

// model is the store written the slow, plain way: maps and scans.
type model struct {
	records map[string]string // bucket/id -> name in the record
	names   map[string]string // space/name -> bucket/id
	leases  map[netip.Addr]string
	last    netip.Addr
	seq     uint64
}

func newModel() *model {
	return &model{records: map[string]string{}, names: map[string]string{}, leases: map[netip.Addr]string{}}
}

func (m *model) clone() *model {
	c := newModel()
	for k, v := range m.records {
		c.records[k] = v
	}
	for k, v := range m.names {
		c.names[k] = v
	}
	for k, v := range m.leases {
		c.leases[k] = v
	}
	c.last, c.seq = m.last, m.seq
	return c
}

func modelSpace(b state.Bucket) string {
	if b == state.Pods {
		b = state.Containers
	}
	return string(b) + "/"
}

// kind is an outcome: 255 for success.
func kind(err error) cove.Kind {
	if err == nil {
		return 255
	}
	return cove.KindOf(err)
}

func (m *model) put(b state.Bucket, id, name string) cove.Kind {
	other := map[state.Bucket]string{state.Containers: "pods/", state.Pods: "containers/"}[b]
	if _, ok := m.records[other+id]; ok {
		return cove.Exists
	}
	m.records[string(b)+"/"+id] = name
	return 255
}

func (m *model) find(b state.Bucket, q string) (string, cove.Kind) {
	if id, ok := strings.CutPrefix(m.names[modelSpace(b)+q], string(b)+"/"); ok {
		return id, 255
	}
	if _, ok := m.records[string(b)+"/"+q]; ok {
		return q, 255
	}
	var ids []string
	for k := range m.records {
		if id, ok := strings.CutPrefix(k, string(b)+"/"); ok && strings.HasPrefix(id, q) {
			ids = append(ids, id)
		}
	}
	switch len(ids) {
	case 0:
		return "", cove.NotFound
	case 1:
		return ids[0], 255
	}
	return "", cove.Invalid
}

func (m *model) lease(first, last netip.Addr, owner string) (netip.Addr, cove.Kind) {
	var order []netip.Addr
	for a := first; !last.Less(a); a = a.Next() {
		order = append(order, a)
	}
	if i := slices.Index(order, m.last); i >= 0 {
		order = append(slices.Clone(order[i+1:]), order[:i+1]...)
	}
	for _, a := range order {
		if m.leases[a] == "" {
			m.leases[a], m.last = owner, a
			return a, 255
		}
	}
	return netip.Addr{}, cove.Unavailable
}

// testRandom runs random transactions on the store and on the model; every
// answer must agree, and after each transaction the whole contents.
func testRandom(t *testing.T, b Backend) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	s, m := b.Open(t), newModel()
	buckets := state.Buckets()
	ids := func() string { return []string{"a", "ab", "abc", "b", "ba", "bb", "c", "cab"}[r.IntN(8)] }
	subnet := netip.MustParsePrefix("10.0.0.0/28")
	first, last := subnet.Addr().Next(), netip.MustParseAddr("10.0.0.14")
	undo := errors.New("undo")
	for round := range 300 {
		next := m.clone()
		abort := r.IntN(4) == 0
		var log []string
		check := func(op string, got, want any) {
			log = append(log, op)
			if got != want {
				t.Fatalf("seed %d, round %d: %s: got %v, want %v\nafter %v", seed, round, op, got, want, log)
			}
		}
		err := s.Update(func(tx state.Tx) error {
			for range r.IntN(12) {
				bucket, id, name := buckets[r.IntN(len(buckets))], ids(), ids()
				key := string(bucket) + "/" + id
				switch r.IntN(8) {
				case 0:
					check("put "+key, kind(tx.Put(bucket, id, cove.Volume{Name: name})), next.put(bucket, id, name))
				case 1:
					want := cove.NotFound
					if _, ok := next.records[key]; ok {
						want = 255
						delete(next.records, key)
					}
					check("delete "+key, kind(tx.Delete(bucket, id)), want)
				case 2:
					want := cove.Kind(255)
					if holder := next.names[modelSpace(bucket)+name]; holder != "" && holder != key {
						want = cove.Exists
					} else {
						next.names[modelSpace(bucket)+name] = key
					}
					check("claim "+name+" for "+key, kind(tx.Claim(bucket, name, id)), want)
				case 3:
					if strings.HasPrefix(next.names[modelSpace(bucket)+name], string(bucket)+"/") {
						delete(next.names, modelSpace(bucket)+name)
					}
					check("release "+string(bucket)+" "+name, kind(tx.Release(bucket, name)), cove.Kind(255))
				case 4:
					got, err := tx.Find(bucket, name)
					id, want := next.find(bucket, name)
					check("find "+string(bucket)+" "+name, fmt.Sprint(got, kind(err)), fmt.Sprint(id, want))
				case 5:
					got, err := tx.Lease("n", subnet, first, last, netip.Addr{}, nil, id)
					a, want := next.lease(first, last, id)
					check("lease for "+id, fmt.Sprint(got, kind(err)), fmt.Sprint(a, want))
				case 6:
					for a, o := range next.leases {
						if o == id {
							delete(next.leases, a)
						}
					}
					check("unlease "+id, kind(tx.Unlease("n", id)), cove.Kind(255))
				case 7:
					n, err := tx.Next("s")
					next.seq++
					check("next", fmt.Sprint(n, kind(err)), fmt.Sprint(next.seq, cove.Kind(255)))
				}
			}
			if abort {
				return undo
			}
			return nil
		})
		if abort != (err != nil) || (err != nil && !errors.Is(err, undo)) {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		if !abort {
			m = next
		}
		if got, want := dump(t, s), m.dump(); got != want {
			t.Fatalf("seed %d, round %d:\ngot\n%s\nwant\n%s\nafter %v", seed, round, got, want, log)
		}
	}
}

func (m *model) dump() string {
	var l []string
	for k, v := range m.records {
		l = append(l, "record "+k+" "+v)
	}
	for k, v := range m.names {
		_, name, _ := strings.Cut(k, "/")
		bucket, id, _ := strings.Cut(v, "/")
		l = append(l, "name "+bucket+"/"+name+" "+id)
	}
	for a, o := range m.leases {
		l = append(l, "lease "+a.String()+" "+o)
	}
	slices.Sort(l)
	return strings.Join(l, "\n")
}

func dump(t testing.TB, s state.Store) string {
	var l []string
	view(t, s, func(tx state.Tx) error {
		for _, b := range state.Buckets() {
			err := tx.List(b, func(id string, raw []byte) error {
				var v cove.Volume
				err := json.Unmarshal(raw, &v)
				l = append(l, "record "+string(b)+"/"+id+" "+v.Name)
				return err
			})
			if err != nil {
				return err
			}
			err = tx.Names(b, func(name, id string) error {
				l = append(l, "name "+string(b)+"/"+name+" "+id)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return tx.Leases("n", func(a netip.Addr, o string) error {
			l = append(l, "lease "+a.String()+" "+o)
			return nil
		})
	})
	slices.Sort(l)
	return strings.Join(l, "\n")
}
