package library

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/metrics"
	"time"

	imagetypes "go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// refuse ends a copy with an error of the kind [cove.Invalid] or another one.
type refuse func(cove.Kind, error)

// bounded is [soon] for what reads from a registry or an archive. The libraries read
// some answers to their end, however far that is (a refusal, a list of tags, a blob),
// and let a layer's compression say how much memory it takes. So f ends, with an error
// that names op and object, when it calls refuse, or when the process's heap has
// grown by heap bytes since the beginning; 0 is no bound.
func bounded[T any](ctx context.Context, heap uint64, op, object string, f func(context.Context, refuse) (T, error)) (T, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	refused := func(kind cove.Kind, err error) { cancel(cove.E("", "", kind, err)) }
	if heap > 0 {
		go watchHeap(ctx, heap, refused)
	}
	v, err := soon(ctx, op, object, func() (T, error) { return f(ctx, refused) })
	if cause, ours := errors.AsType[*cove.Error](context.Cause(ctx)); ours && err != nil {
		err = fail(op, object, cause) // and not that the copy was cancelled
	}
	return v, err
}

// watchHeap calls refuse when the heap has grown by most bytes that are in use.
func watchHeap(ctx context.Context, most uint64, refuse refuse) {
	limit := heap() + most
	// At the speed of memory it is half a gigabyte from one look to the next.
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		if heap() <= limit {
			continue
		}
		if runtime.GC(); heap() > limit {
			refuse(cove.Invalid, fmt.Errorf("what is sent takes more than %d MiB of memory, which no image needs", most>>20))
			return
		}
	}
}

// heap is how many bytes the process's objects take, dead ones with them until they
// are found.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// blobs refuses a blob that has no place in the directory that it is kept in first. The
// libraries compare with no size that a manifest says.
func (r refuse) blobs(dir string) func(imagetypes.ProgressProperties) {
	return func(p imagetypes.ProgressProperties) {
		var err error
		switch p.Event {
		case imagetypes.ProgressEventNewArtifact:
			err = place(dir, p.Artifact.Size, 0)
		case imagetypes.ProgressEventRead:
			err = place(dir, p.Artifact.Size, int64(p.Offset))
		}
		if err != nil {
			r(cove.Unavailable, fmt.Errorf("blob %s: %w", p.Artifact.Digest, err))
		}
	}
}

// place fails if there is no room in dir for what has size bytes, of which it has had
// some; or, of what does not say its size (-1), when it has taken half of the room: who
// sends without end is to leave some to others.
func place(dir string, size, had int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Blocks == 0 {
		return nil // what cannot be written there will say so; no blocks: it does not tell, as ramfs
	}
	room := int64(fs.Bfree) * fs.Bsize // with root's reserve: it may be ours
	switch {
	case size-had > room:
		return fmt.Errorf("it is to have %d bytes more, and there is room for %d in %s: %w", size-had, room, dir, unix.ENOSPC)
	case size < 0 && had > room:
		return fmt.Errorf("it does not say its size, has had %d bytes, and there is room for %d more in %s: %w", had, room, dir, unix.ENOSPC)
	}
	return nil
}

// placed reads what is kept in dir as long as it has a place there.
type placed struct {
	io.Reader
	dir            string
	size, had, ask int64 // -1: not known
}

func (p *placed) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if p.had += int64(n); p.had > p.ask {
		p.ask = p.had + 1<<20
		if e := place(p.dir, p.size, p.had); e != nil {
			return n, e
		}
	}
	return n, err
}
