// Package front is the image store as the fast program sees it: what cove's
// index of images knows is answered, everything else is left to the full
// program, which takes this one's place and does the command from its
// beginning.
package front

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/index"
)

// Store implements image.Images.
type Store struct {
	opts  image.Options
	leave func() error
}

var _ image.Images = (*Store)(nil)

// Open gives the store of a graph root, which must be absolute. leave
// replaces this program by the full one and returns only if it cannot.
// Descriptors and locks are close-on-exec, so nothing of an unfinished
// attempt is left when it does.
func Open(o image.Options, leave func() error) *Store { return &Store{o, leave} }

// Resolve answers from the index, or leaves.
func (s *Store) Resolve(_ context.Context, nameOrID, platform string) (cove.ImageConfig, error) {
	if img, ok := index.Lookup(s.dir(), s.opts.GraphRoot, index.Question(s.opts, nameOrID, platform)); ok {
		return img, nil
	}
	return cove.ImageConfig{}, s.leave()
}

// Ready leaves.
func (s *Store) Ready() error { return s.leave() }

// Check leaves.
func (s *Store) Check(context.Context, func() image.Users) ([]image.Damage, error) {
	return nil, s.leave()
}

// Hold keeps images from being removed.
func (s *Store) Hold(ctx context.Context) (func() error, error) {
	release, err := index.Hold(ctx, s.dir())
	if err != nil {
		kind := cove.Unavailable
		if errors.Is(err, os.ErrPermission) {
			kind = cove.Denied
		}
		return nil, cove.E("hold images", "", kind, err)
	}
	return release, nil
}

func (s *Store) dir() string {
	if s.opts.IndexDir != "" {
		return s.opts.IndexDir
	}
	return filepath.Join(s.opts.GraphRoot, "cove", "images")
}

// The rest leaves.

func (s *Store) Pull(context.Context, string, image.PullOptions) ([]string, error) {
	return nil, s.leave()
}
func (s *Store) Load(context.Context, string, image.LoadOptions) ([]string, error) {
	return nil, s.leave()
}
func (s *Store) LoadFrom(context.Context, io.Reader, image.LoadOptions) ([]string, error) {
	return nil, s.leave()
}
func (s *Store) LoadBuiltin(context.Context, string, []byte) error { return s.leave() }
func (s *Store) Import(context.Context, string, image.ImportOptions) (string, error) {
	return "", s.leave()
}
func (s *Store) NormalizeName(string) (string, error) { return "", s.leave() }
func (s *Store) FromLayer(context.Context, string, io.Reader, map[string]string) error {
	return s.leave()
}
func (s *Store) Commit(context.Context, image.CommitOptions, func(io.Writer) error) (string, error) {
	return "", s.leave()
}
func (s *Store) Layer(string) (io.ReadCloser, error)                { return nil, s.leave() }
func (s *Store) Compress(io.Writer, string) (io.WriteCloser, error) { return nil, s.leave() }
func (s *Store) Decompress(io.Reader) (io.ReadCloser, error)        { return nil, s.leave() }
func (s *Store) Push(context.Context, string, string, image.PushOptions) (string, error) {
	return "", s.leave()
}
func (s *Store) Save(context.Context, []string, image.SaveOptions) error { return s.leave() }
func (s *Store) List(context.Context, image.ListOptions) ([]image.Summary, error) {
	return nil, s.leave()
}
func (s *Store) Inspect(context.Context, string) (*image.ImageData, error) { return nil, s.leave() }
func (s *Store) Exists(string) (bool, error)                               { return false, s.leave() }
func (s *Store) History(context.Context, string) ([]image.HistoryEntry, error) {
	return nil, s.leave()
}
func (s *Store) Tag(string, ...string) error   { return s.leave() }
func (s *Store) Untag(string, ...string) error { return s.leave() }
func (s *Store) Remove(context.Context, []string, image.RemoveOptions, image.Users) ([]image.RemoveReport, error) {
	return nil, s.leave()
}
func (s *Store) Prune(context.Context, bool, []string, image.Users) ([]image.RemoveReport, error) {
	return nil, s.leave()
}
func (s *Store) Retire(context.Context, image.Users) error               { return s.leave() }
func (s *Store) Login(context.Context, string, image.LoginOptions) error { return s.leave() }
func (s *Store) Logout(string, image.LogoutOptions) error                { return s.leave() }
