// Package image is the door to the local image store: what can be asked of
// it, as plain data. The library behind it (image/library) takes longer to
// initialise than a container to start, so the program that people start
// links image/front instead, which answers from cove's own index
// (image/index) and otherwise makes way for the full program.
package image

import (
	"context"
	"io"

	"github.com/cove-engine/cove"
)

// Images is the local image store, shared with podman, buildah and skopeo. A
// nameOrID is a reference, a short name, a digest or the beginning of an ID.
// Methods may be called from any goroutine.
//
// Kinds of error: NotFound, Invalid (a malformed name, a damaged image),
// Denied (credentials, signature policy), Unavailable (a registry that does
// not answer, a full disk), InUse, Unsupported.
type Images interface {
	// Ready makes sure that every method can be carried out by this
	// program. It may replace the program, so it comes before anything that
	// cannot be done twice.
	Ready() error

	// Resolve gives what a container takes from an image. It is the start
	// path: when the index answers, the store is not opened. platform is
	// os/arch[/variant], "" takes whatever carries the name.
	Resolve(ctx context.Context, nameOrID, platform string) (cove.ImageConfig, error)
	// Hold keeps images from being removed by cove until release is called:
	// from before Resolve until the container's record is durable.
	Hold(ctx context.Context) (release func() error, err error)

	// Pull brings an image into the store and gives the IDs of what name
	// stands for. On failure the store is as it was; so with the next four.
	Pull(ctx context.Context, name string, o PullOptions) ([]string, error)
	// Load reads an archive or directory and gives names, or "sha256:" and
	// the ID where there is none. LoadFrom is Load of a stream, LoadBuiltin
	// of an archive in memory that needs no policy.
	Load(ctx context.Context, path string, o LoadOptions) ([]string, error)
	LoadFrom(ctx context.Context, r io.Reader, o LoadOptions) ([]string, error)
	LoadBuiltin(ctx context.Context, name string, archive []byte) error
	// Import makes an image of one layer from a tarball and gives its ID.
	Import(ctx context.Context, source string, o ImportOptions) (string, error)
	// NormalizeName gives the whole name that a new image gets. FromLayer
	// makes one in OCI's format of one layer, a tar stream; Layer gives that of
	// an image that has no other.
	NormalizeName(name string) (string, error)
	FromLayer(ctx context.Context, name string, layer io.Reader, annotations map[string]string) error
	Layer(nameOrID string) (io.ReadCloser, error)
	// Commit makes an image of a container, whose uppermost layer the function
	// writes as a tar stream, and gives its ID. A name that another image has
	// passes to the new one.
	Commit(ctx context.Context, o CommitOptions, layer func(io.Writer) error) (string, error)
	// Compress gives a stream that is written to w by algorithm (none, gzip,
	// zstd); Decompress reads one of any.
	Compress(w io.Writer, algorithm string) (io.WriteCloser, error)
	Decompress(r io.Reader) (io.ReadCloser, error)
	// Push gives the digest of the manifest that it wrote.
	Push(ctx context.Context, nameOrID, destination string, o PushOptions) (string, error)
	// Save writes images to an archive or directory, whole or not at all.
	Save(ctx context.Context, nameOrIDs []string, o SaveOptions) error

	List(ctx context.Context, o ListOptions) ([]Summary, error)
	Inspect(ctx context.Context, nameOrID string) (*ImageData, error)
	Exists(nameOrID string) (bool, error)
	// History gives the steps of an image's making, the newest first.
	History(ctx context.Context, nameOrID string) ([]HistoryEntry, error)

	Tag(nameOrID string, names ...string) error
	Untag(nameOrID string, names ...string) error
	// Remove takes a name from an image with several, and deletes an image
	// with one. What users or other tools' containers use is refused with
	// InUse, also with Force. What could be done is reported beside the
	// errors, which are joined. Prune removes what nobody uses.
	Remove(ctx context.Context, nameOrIDs []string, o RemoveOptions, users Users) ([]RemoveReport, error)
	Prune(ctx context.Context, all bool, filters []string, users Users) ([]RemoveReport, error)

	// Check compares the store with what it should hold, down to the content of
	// every layer. users is asked for, here and by a repair, when no container is
	// being made, and tells of those that there are then.
	Check(ctx context.Context, users func() Users) ([]Damage, error)

	// Retire takes what is cove's own out of the store: pins, and the directory
	// for blobs in flight. Images stay.
	Retire(ctx context.Context, users Users) error

	// Login checks and keeps credentials, Logout forgets them.
	Login(ctx context.Context, registry string, o LoginOptions) error
	Logout(registry string, o LogoutOptions) error
}

// Damage is what is wrong in the store.
type Damage struct {
	Kind, Object string // "layer", "image" or "pin", and its ID or that of the pin's image
	Problem      string
	// Repair undoes it, nil where it takes a decision: what is damaged may be all
	// that there is.
	Repair func() error
}
