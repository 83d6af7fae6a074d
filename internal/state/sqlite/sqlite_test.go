package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/statetest"
)

func again(path string, timeout time.Duration) state.Store {
	return state.In(Open(path, timeout), state.Present(), nil)
}

func TestMain(m *testing.M) {
	statetest.Child(again)
	os.Exit(m.Run())
}

var backend = statetest.Backend{
	Open:   func(t testing.TB) state.Store { return again(filepath.Join(t.TempDir(), "state.sqlite"), 0) },
	Again:  again,
	With:   func(path string, l state.Layout) state.Store { return state.In(Open(path, time.Second), l, nil) },
	Beside: []string{"-journal"},
}

func TestSuite(t *testing.T) { statetest.Run(t, backend) }

// tall makes a file of many pages.
func tall(t testing.TB, records int) []byte {
	t.Helper()
	s := backend.Open(t)
	for range 3 { // several: there are free pages then
		err := s.Update(func(tx state.Tx) error {
			for i := range records {
				id := fmt.Sprintf("%064x", i*7919)
				c := cove.Container{ID: id, Name: "n" + id, CommandLine: []string{strings.Repeat("x", i*20%5000)}}
				if err := errors.Join(tx.Put(state.Containers, id, c), tx.Claim(state.Containers, c.Name, id)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

const page = 4096

// mend gives each page the checksum that its contents ask for, so that damage
// is met beyond it: two sums over pairs of words, in the page's last 8 bytes.
func mend(raw []byte) {
	n := binary.LittleEndian
	for ; len(raw) >= page; raw = raw[page:] {
		var a, b uint32
		for at := 0; at < page-8; at += 8 {
			a += n.Uint32(raw[at:]) + b
			b += n.Uint32(raw[at+4:]) + a
		}
		n.PutUint32(raw[page-8:], a)
		n.PutUint32(raw[page-4:], b)
	}
}

// TestDamagedPages: pages whose checksums fit and whose contents do not.
func TestDamagedPages(t *testing.T) {
	good := tall(t, 200)
	same := bytes.Clone(good)
	mend(same)
	if !bytes.Equal(same, good) {
		t.Fatal("the checksums are not those of the file")
	}
	path := filepath.Join(statetest.InMemory(t), "state.sqlite")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	found := 0
	const rounds = 300
	for range rounds {
		raw := bytes.Clone(good)
		for range 1 + r.IntN(3) {
			// The beginning of a page says where all else is.
			raw[r.IntN(len(raw)/page)*page+r.IntN(40)] = byte(r.Uint32())
		}
		mend(raw)
		if statetest.TryDamaged(t, backend, path, raw) != nil {
			found++
		}
	}
	t.Logf("%d of %d damages were noticed", found, rounds)
	if found < rounds/4 {
		t.Errorf("only %d of %d damages were noticed", found, rounds)
	}
}

// TestForeignJournal: the journal of a store that was moved away in the middle
// of a commit is not played into a new one.
func TestForeignJournal(t *testing.T) {
	s := backend.Open(t)
	journal := s.Path() + "-journal"
	if err := os.WriteFile(journal, []byte("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7anything"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := s.Update(func(state.Tx) error { return nil })
	if err == nil || !strings.Contains(err.Error(), journal) {
		t.Errorf("beside a journal: %v", err)
	}
	if err := os.Remove(journal); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(state.Tx) error { return nil }); err != nil {
		t.Error(err)
	}
}

// FuzzFile bends a file as the fuzzer says.
func FuzzFile(f *testing.F) {
	good := tall(f, 8)
	path := filepath.Join(statetest.InMemory(f), "state.sqlite")
	for which := range byte(5) {
		f.Add(which, []byte{0, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, which byte, edits []byte) {
		raw := bytes.Clone(good)
		for ; len(edits) >= 4; edits = edits[4:] {
			at := (int(binary.BigEndian.Uint16(edits)) % (len(raw) / 64)) * 64
			raw[at+int(edits[2])%64] = edits[3]
		}
		mend(raw)
		statetest.TryDamagedOnce(t, backend, path, raw, which)
	})
}
