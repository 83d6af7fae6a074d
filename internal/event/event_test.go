package event

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

func collect(t testing.TB, o ReadOptions) (got []cove.Event) {
	t.Helper()
	err := Read(context.Background(), o, nil, func(e cove.Event) error { got = append(got, e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// The first line is podman 4's own, the second has podman 5's further keys.
const podmanLines = `{"ID":"c7a3","Image":"localhost/bb:latest","Name":"done1","Status":"cleanup","Time":"2026-11-23T23:17:09.206048747Z","Type":"container","Attributes":{}}
{"ContainerExitCode":3,"ID":"c7a3","Image":"i","Name":"done1","network":"podman","Status":"died","Time":"2026-11-23T23:17:10Z","Type":"container","health_status":"healthy","error":"e","Attributes":{"a":"b"}}
{"Name":"v","Status":"create","Time":"2026-11-23T23:22:08.584494368Z","Type":"volume","Attributes":null}
`

func TestPodmansLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.log")
	if err := os.WriteFile(path, []byte("\n{}\nnot json\n"+podmanLines+strings.Repeat("x", maxLine+5)+"\n"+`{"half":`), 0o600); err != nil {
		t.Fatal(err)
	}
	got := collect(t, ReadOptions{Path: path})
	if len(got) != 3 {
		t.Fatalf("%d events: %v", len(got), got)
	}
	e := got[1]
	if *e.ExitCode != 3 || e.Network != "podman" || e.Health != "healthy" || e.Error != "e" || e.Attributes["a"] != "b" {
		t.Errorf("got %+v", e)
	}
	for i, want := range strings.SplitAfter(podmanLines, "\n")[:2] {
		raw, err := encode(got[i])
		if err != nil {
			t.Fatal(err)
		}
		var a, b map[string]any
		if json.Unmarshal(raw, &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
			t.Fatalf("not JSON: %s", raw)
		}
		if a["Attributes"] == nil {
			a["Attributes"] = map[string]any{}
		}
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("wrote %s\nwant  %s", raw, want)
		}
	}
}

func TestFilters(t *testing.T) {
	now := time.Now()
	c := cove.Event{ID: "abc123", Name: "web", Image: "img", Status: "start", Type: "container", Time: now, Attributes: map[string]string{"k": "v", "e": ""}}
	v := cove.Event{Name: "vol", Status: "create", Type: "volume", Time: now}
	for _, x := range []struct {
		filters string
		c, v    bool
	}{
		{"", true, true},
		{"container=web", true, false}, {"container=abc", true, false}, {"container=bc", false, false}, {"container=", false, false},
		{"container=x container=web", true, false},
		{"volume=vol", false, true}, {"volume=web", false, false},
		{"event=start", true, false}, {"status=create", false, true}, {"event=start event=create", true, true},
		{"type=container", true, false}, {"type=container event=create", false, false},
		{"label=k", true, false}, {"label=k=v", true, false}, {"label=k=w", false, false}, {"label=e=", true, false},
		{"image=img", false, false}, // of image events, as podman has it
		{"Type=volume", false, true},
	} {
		f, err := ParseFilter(strings.Fields(x.filters))
		if err != nil {
			t.Error(err)
		}
		if f.Match(c) != x.c || f.Match(v) != x.v {
			t.Errorf("%s: %v, %v", x.filters, f.Match(c), f.Match(v))
		}
	}
	for _, bad := range []string{"container", "since=1", "="} {
		if _, err := ParseFilter([]string{bad}); !cove.Is(err, cove.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("here", 2*3600)
	now := time.Date(2026, 5, 6, 12, 0, 0, 0, zone)
	for in, want := range map[string]time.Time{
		"10m":                       now.Add(-10 * time.Minute),
		"-1h":                       now.Add(time.Hour),
		"1136073600":                time.Unix(1136073600, 0),
		"1136073600.5":              time.Unix(1136073600, 5e8),
		"1136073600.000000001":      time.Unix(1136073600, 1),
		"2026-01-02T03:04:05Z":      time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"2026-01-02T03:04:05+01:00": time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC),
		"2026-01-02T03:04:05.25":    time.Date(2026, 1, 2, 3, 4, 5, 25e7, zone),
		"2026-01-02T03:04":          time.Date(2026, 1, 2, 3, 4, 0, 0, zone),
		"2026-01-02":                time.Date(2026, 1, 2, 0, 0, 0, 0, zone),
	} {
		if got, err := ParseTime(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "soon", "99999999999999999999", "9223372036854775807", "1.x", "2026-13-01"} {
		if got, err := ParseTime(bad, now); !cove.Is(err, cove.Invalid) {
			t.Errorf("%q: %s, %v", bad, got, err)
		}
	}
}

func TestSinceUntil(t *testing.T) {
	w := File{Path: filepath.Join(t.TempDir(), "a", "events.log")}
	if got := collect(t, ReadOptions{Path: w.Path}); len(got) != 0 {
		t.Errorf("no file holds %v", got)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 10 {
		if err := w.Write(cove.Event{Name: fmt.Sprint(i), Type: "volume", Status: "create", Time: at.Add(time.Duration(i) * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	got := collect(t, ReadOptions{Path: w.Path, Since: at.Add(3 * time.Second), Until: at.Add(5 * time.Second)})
	if len(got) != 3 || got[0].Name != "3" || got[2].Name != "5" {
		t.Errorf("got %v", got)
	}
	info, err := os.Stat(w.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestRotation writes from many goroutines over many rotations. A follower that
// keeps up sees every event, in each writer's order; the size stays capped.
func TestRotation(t *testing.T) {
	const writers, each, limit = 8, 400, 64 << 10
	// Who has waited long enough for one that was stopped writes all the same, maybe to a
	// file that was read to its end; here nobody is stopped, but a machine may be busy.
	defer func(was time.Duration) { patience = was }(patience)
	patience = time.Minute
	w := File{Path: filepath.Join(t.TempDir(), "events.log"), MaxSize: limit}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	ready, done := make(chan struct{}), make(chan error, 1)
	seen := map[string]int{}
	var total, written atomic.Int64
	go func() {
		done <- Read(ctx, ReadOptions{Path: w.Path, Follow: true}, func() { close(ready) }, func(e cove.Event) error {
			var n int
			fmt.Sscan(e.ID, &n)
			if seen[e.Name] != n {
				t.Errorf("writer %s: event %d, want %d", e.Name, n, seen[e.Name])
			}
			seen[e.Name] = n + 1
			if total.Add(1) == writers*each {
				cancel()
			}
			return nil
		})
	}()
	<-ready
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := range each {
				if err := w.Write(cove.Event{ID: fmt.Sprint(n), Name: fmt.Sprint(i), Type: "container", Status: "start"}); err != nil {
					t.Error(err)
				}
				// A follower that is two rotations behind has lost a file;
				// one file holds some 250 events here.
				for written.Add(1); written.Load()-total.Load() > 150 && ctx.Err() == nil; {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if total.Load() != writers*each {
		t.Errorf("the follower saw %d events of %d", total.Load(), writers*each)
	}
	var size int64
	for _, p := range []string{w.Path, w.Path + ".1"} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > limit {
		t.Errorf("%d bytes of at most %d", size, limit)
	}
	if n := len(collect(t, ReadOptions{Path: w.Path})); n < 100 {
		t.Errorf("%d events are left", n)
	}
}

// TestStopped writes while a process that was stopped has the file's lock.
func TestStopped(t *testing.T) {
	for how, name := range map[int]string{unix.LOCK_SH: "writing", unix.LOCK_EX: "rotating"} {
		t.Run(name, func(t *testing.T) {
			w := File{Path: filepath.Join(t.TempDir(), "events.log"), MaxSize: 1 << 10}
			write := func(name string) {
				done := make(chan error, 1)
				go func() { done <- w.Write(cove.Event{Name: name, Type: "volume", Status: "create"}) }()
				select {
				case err := <-done:
					if err != nil {
						t.Fatal(err)
					}
				case <-time.After(30 * time.Second):
					t.Fatal("waits for the one that was stopped")
				}
			}
			write(strings.Repeat("x", 400)) // the next is one too many
			stopped, err := os.Open(w.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer stopped.Close()
			if err := unix.Flock(int(stopped.Fd()), how); err != nil {
				t.Fatal(err)
			}
			write("meanwhile")
			if n := len(collect(t, ReadOptions{Path: w.Path})); n != 2 {
				t.Errorf("%d events, want 2", n)
			}
			if err := unix.Flock(int(stopped.Fd()), unix.LOCK_UN); err != nil {
				t.Fatal(err)
			}
			write("afterwards")
			if n := len(collect(t, ReadOptions{Path: w.Path})); n != 3 {
				t.Errorf("%d events, want 3", n)
			}
			if _, err := os.Stat(w.Path + ".1"); err != nil {
				t.Error("it was not rotated:", err)
			}
		})
	}
}

func TestFollow(t *testing.T) {
	w := File{Path: filepath.Join(t.TempDir(), "events.log")}
	put := func(name string) {
		if err := w.Write(cove.Event{Name: name, Type: "volume", Status: "create"}); err != nil {
			t.Error(err)
		}
	}
	put("before")
	follow := func(o ReadOptions, during func()) (names []string) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		o.Path, o.Follow = w.Path, true
		err := Read(ctx, o, func() { go during() }, func(e cove.Event) error {
			if names = append(names, e.Name); e.Name == "last" {
				cancel()
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return names
	}
	if got := follow(ReadOptions{}, func() { put("new"); put("last") }); fmt.Sprint(got) != "[new last]" {
		t.Errorf("from now on: %v", got)
	}
	if got := follow(ReadOptions{Since: time.Now().Add(-time.Hour)}, func() { put("last") }); fmt.Sprint(got) != "[before new last]" {
		t.Errorf("since: %v", got)
	}
	start := time.Now()
	follow(ReadOptions{Until: start.Add(50 * time.Millisecond), Filter: Filter{"event": {"none"}}}, func() {})
	if took := time.Since(start); took < 50*time.Millisecond || took > 30*time.Second {
		t.Errorf("until came after %s", took)
	}
	// What there is by then is given, however late one comes to read it.
	if got := follow(ReadOptions{Since: start.Add(-time.Hour), Until: start}, func() {}); fmt.Sprint(got) != "[before new last]" {
		t.Errorf("until came before the reading: %v", got)
	}
}

// TestRotatedMeanwhile: a follower misses nothing of a log that came, and was
// rotated, before it looked again.
func TestRotatedMeanwhile(t *testing.T) {
	w := File{Path: filepath.Join(t.TempDir(), "events.log")}
	put := func(name string) {
		if err := w.Write(cove.Event{Name: name, Type: "volume", Status: "create"}); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var names []string
	err := Read(ctx, ReadOptions{Path: w.Path, Follow: true}, func() {
		put("first")
		if err := os.Rename(w.Path, w.Path+".1"); err != nil {
			t.Error(err)
		}
		put("last")
	}, func(e cove.Event) error {
		if names = append(names, e.Name); e.Name == "last" {
			cancel()
		}
		return nil
	})
	if err != nil || fmt.Sprint(names) != "[first last]" {
		t.Errorf("%v, %v", names, err)
	}
}

func TestNone(t *testing.T) {
	var w Writer = None{}
	if err := w.Write(cove.Event{}); err != nil {
		t.Error(err)
	}
}

func BenchmarkWrite(b *testing.B) {
	w := File{Path: filepath.Join(b.TempDir(), "events.log"), MaxSize: 1 << 20}
	e := cove.Event{ID: strings.Repeat("a", 64), Image: "localhost/x:latest", Name: "n", Type: "container", Status: "start", Attributes: map[string]string{"a": "b"}}
	for b.Loop() {
		if err := w.Write(e); err != nil {
			b.Fatal(err)
		}
	}
}
