package front_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/front"
	"github.com/cove-engine/cove/internal/image/index"
)

var errLeft = errors.New("left")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// indexed is a store whose index knows app:1.
func indexed(t *testing.T) (image.Options, cove.ImageConfig) {
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "images.lock"), []byte("token"), 0o600))
	o := image.Options{GraphRoot: root, Driver: "overlay", DriverOptions: []string{"overlay.mountopt=nodev"}}
	dir := filepath.Join(root, "cove", "images")
	config := cove.ImageConfig{ID: strings.Repeat("ab", 32), Name: "example.org/app:1", Layers: []string{"overlay/l/A"}}
	must(t, index.Write(dir, index.Entry{
		Key: index.Question(o, "app:1", ""), Image: config,
		Marks: []index.Mark{index.MarkLock(root, filepath.Join(root, "images.lock"))},
	}))
	return o, config
}

func TestResolve(t *testing.T) {
	o, want := indexed(t)
	left := 0
	open := func(o image.Options) *front.Store {
		return front.Open(o, func() error { left++; return errLeft })
	}
	ctx := context.Background()
	got, err := open(o).Resolve(ctx, "app:1", "")
	must(t, err)
	if !reflect.DeepEqual(got, want) || left != 0 {
		t.Errorf("left %d times, got %+v", left, got)
	}
	for name, ask := range map[string]func() error{
		"other name":     func() error { _, err := open(o).Resolve(ctx, "app:2", ""); return err },
		"other platform": func() error { _, err := open(o).Resolve(ctx, "app:1", "linux/arm64"); return err },
		"other options": func() error {
			p := o
			p.DriverOptions = nil
			_, err := open(p).Resolve(ctx, "app:1", "")
			return err
		},
		"store written": func() error {
			must(t, os.WriteFile(filepath.Join(o.GraphRoot, "images.lock"), []byte("other"), 0o600))
			_, err := open(o).Resolve(ctx, "app:1", "")
			return err
		},
	} {
		left = 0
		if err := ask(); !errors.Is(err, errLeft) || left != 1 {
			t.Errorf("%s: left %d times: %v", name, left, err)
		}
	}
}

// TestRest: every other method leaves once and hands out the reason.
func TestRest(t *testing.T) {
	images := reflect.TypeFor[image.Images]()
	for method := range images.Methods() {
		if method.Name == "Resolve" || method.Name == "Hold" {
			continue
		}
		left := 0
		s := reflect.ValueOf(front.Open(image.Options{GraphRoot: t.TempDir()}, func() error { left++; return errLeft }))
		f := s.MethodByName(method.Name)
		var in []reflect.Value
		for a := range f.Type().Ins() {
			if a == reflect.TypeFor[context.Context]() {
				in = append(in, reflect.ValueOf(context.Background()))
			} else {
				in = append(in, reflect.Zero(a))
			}
		}
		call := f.Call
		if f.Type().IsVariadic() {
			call = f.CallSlice
		}
		out := call(in)
		err, _ := out[len(out)-1].Interface().(error)
		if left != 1 || !errors.Is(err, errLeft) {
			t.Errorf("%s: left %d times, %v", method.Name, left, err)
		}
	}
}

func TestHold(t *testing.T) {
	o, _ := indexed(t)
	dir := filepath.Join(o.GraphRoot, "cove", "images")
	s := front.Open(o, func() error { t.Error("left"); return errLeft })
	release, err := s.Hold(context.Background())
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := index.Own(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("owned while held: %v", err)
	}
	must(t, release())
	own, err := index.Own(context.Background(), dir)
	must(t, err)
	if _, err := s.Hold(ctx); !cove.Is(err, cove.Unavailable) {
		t.Errorf("held while owned: %v", err)
	}
	must(t, own())
}

// TestHoldEndsOnExec: what the front locks does not outlive its replacement.
func TestHoldEndsOnExec(t *testing.T) {
	o, _ := indexed(t)
	_, err := front.Open(o, func() error { return errLeft }).Hold(context.Background())
	must(t, err)
	lock := filepath.Join(o.GraphRoot, "cove", "images", "lock")
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	found := false
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to != lock {
			continue
		}
		found = true
		n, err := strconv.Atoi(fd.Name())
		must(t, err)
		if flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("the lock is not closed on exec: %#x %v", flags, err)
		}
	}
	if !found {
		t.Error("the lock is not open")
	}
}
