package library

import (
	"context"

	"go.podman.io/common/libimage"
	imagetypes "go.podman.io/image/v5/types"

	"github.com/cove-engine/cove/internal/image"
)

// report has a copy tell its progress to check, at once, and to f, nil for nobody, until the returned function
// is called, which must be when the copy has ended. A copy that was left behind
// (soon) tells nothing more.
func report(ctx context.Context, check func(imagetypes.ProgressProperties), f func(image.BlobProgress), o *libimage.CopyOptions) (end func()) {
	if check == nil && f == nil {
		return func() {}
	}
	told, all := make(chan imagetypes.ProgressProperties), make(chan struct{})
	go func() {
		defer close(all)
		for p := range told {
			if check != nil {
				check(p)
			}
			if f != nil && ctx.Err() == nil {
				f(blobProgress(p))
			}
		}
	}()
	o.Progress = told
	return func() {
		close(told)
		<-all
	}
}

func blobProgress(p imagetypes.ProgressProperties) image.BlobProgress {
	b := image.BlobProgress{Digest: p.Artifact.Digest.String(), Size: p.Artifact.Size, Done: int64(p.Offset)}
	switch p.Event {
	case imagetypes.ProgressEventDone:
		b.Ended = true
	case imagetypes.ProgressEventSkipped:
		b.Ended, b.Skipped = true, true
	}
	return b
}
