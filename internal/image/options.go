package image

import (
	"io"
	"strings"
	"time"

	"github.com/cove-engine/cove"
)

// Options say where images are and which configuration files rule. An empty
// value leaves the decision to the ecosystem's files (storage.conf,
// registries.conf, policy.json, auth.json) and their environment variables.
type Options struct {
	GraphRoot     string   // --root
	RunRoot       string   // --runroot
	Driver        string   // --storage-driver
	DriverOptions []string // --storage-opt, "overlay.mountopt=nodev"; replace storage.conf's
	ImageStore    string   // --imagestore: a graph root for images only
	// IndexDir is cove's own directory for its index of images; "" is
	// cove/images below the graph root.
	IndexDir string

	SignaturePolicy   string   // policy.json
	RegistriesConf    string   // registries.conf
	RegistriesConfDir string   // registries.conf.d
	AuthFile          string   // auth.json
	CertDir           string   // client certificates and CAs of registries
	ContainersConf    []string // containers.conf's files in their order, which is not the library's
	TmpDir            string   // for blobs in flight; "" is containers.conf's image_copy_tmp_dir, else /var/tmp

	// MaxHeap is by how many bytes the process's heap may grow while one image comes or
	// goes, whatever a registry sends; 0 is no bound, for a process that does other
	// things meanwhile.
	MaxHeap uint64
}

// Users tells which containers of cove's use an image: it takes the full ID
// and gives the containers' names or IDs as messages should show them. nil
// means that none do.
type Users func(imageID string) []string

// Transfer are the options that every copy between the store and elsewhere
// has.
type Transfer struct {
	TLSVerify *bool  // nil: registries.conf decides
	Creds     string // user[:password]
	// AskPassword gives the password that Creds lacks; nil: it is none.
	AskPassword     func() (string, error)
	AuthFile        string
	CertDir         string
	SignaturePolicy string
	Progress        io.Writer // nil: quiet
	// Report is told how far each blob is: when it begins and ends, and every
	// second in between. It is called by one goroutine at a time and is waited for.
	Report func(BlobProgress)
	// Retries is how often a failed copy is tried again, RetryDelay the
	// first pause; nil: containers.conf.
	Retries    *uint
	RetryDelay *time.Duration
}

// Complete asks for the password that Creds lacks.
func (t *Transfer) Complete() error {
	user, password, _ := strings.Cut(t.Creds, ":")
	if user == "" || password != "" || t.AskPassword == nil {
		return nil
	}
	password, err := t.AskPassword()
	t.Creds = user + ":" + password
	return err
}

// BlobProgress is how far a layer or configuration has been copied.
type BlobProgress struct {
	Digest string // "" where it is not known before the end
	Size   int64  // bytes; -1: not known
	Done   int64  // bytes
	// Ended says that nothing more comes of it. It was copied, unless it was
	// Skipped because it is there already.
	Ended, Skipped bool
}

// PullOptions say how to pull.
type PullOptions struct {
	Transfer
	Policy   string // always, missing (""), never, newer
	Platform string // os/arch[/variant]
	AllTags  bool
}

// PushOptions say how to push.
type PushOptions struct {
	Transfer
	Format           string // oci, v2s2, v2s1; "" keeps the image's
	Compression      string // gzip, zstd, zstd:chunked; "" is containers.conf's
	CompressionLevel *int
	ForceCompression bool // compress again what has another format
	DigestFile       string
	RemoveSignatures bool
	SignBy           string // GPG fingerprint
	SignPassphrase   string
}

// LoadOptions say how to load.
type LoadOptions struct {
	SignaturePolicy string
	Progress        io.Writer // nil: quiet
}

// SaveOptions say where and how to save.
type SaveOptions struct {
	Format string    // docker-archive (""), oci-archive, docker-dir, oci-dir
	Output string    // path; for archives "" writes to Writer
	Writer io.Writer // when Output is ""
	// Compress the layers of docker-dir.
	Compress bool
	// MultiImageArchive saves every name as an image of its own
	// (docker-archive only); else names after the first are further names
	// of the first.
	MultiImageArchive  bool
	AcceptUncompressed bool // OCI formats: leave uncompressed layers so
	SignaturePolicy    string
	Progress           io.Writer // nil: quiet
}

// ImportOptions say what the imported image is.
type ImportOptions struct {
	Changes         []string // Dockerfile instructions: CMD, ENV, USER, …
	Message         string
	Reference       string // its name; may be empty
	OS, Arch        string
	Variant         string
	SignaturePolicy string
	Progress        io.Writer // nil: quiet
	Stdin           io.Reader // read when the source is "-"
}

// CommitOptions say what the image of a container is.
type CommitOptions struct {
	// Config is what the container was made with. Its ID and Name are those of the
	// image that it was made from.
	Config  cove.ImageConfig
	Merge   []byte   // a container configuration in docker's JSON to lay over it
	Changes []string // Dockerfile instructions: CMD, ENV, USER, …
	Name    string   // may be empty
	Author  string
	Message string // of Docker's format alone
	Docker  bool   // its format in place of OCI's
	// Squash says that the new layer holds all that the image's layers do.
	Squash   bool
	Progress io.Writer // nil: quiet
}

// ListOptions say which images to list.
type ListOptions struct {
	All bool // also unnamed parents of other images
	// Filters are podman's: after, before, since, until, dangling, id,
	// digest, label, readonly, reference, intermediate, manifest, each with
	// = or !=, and containers=true|false.
	Filters []string
	Users   Users // counts containers
	Layers  bool  // fills Summary.Layers
}

// Summary is one image in a list.
type Summary struct {
	ID          string
	ParentID    string
	Names       []string // every name, fully qualified
	RepoTags    []string
	RepoDigests []string
	Digest      string
	Created     time.Time
	Size        int64   // bytes, with the layers that it shares with others
	Layers      []Layer // uppermost first, on request
	Labels      map[string]string
	Containers  int // of cove's
	Dangling    bool
	ReadOnly    bool
	History     []string // names that it had
	OS          string
	Arch        string
}

// Layer is one layer of an image, which other images may have too.
type Layer struct {
	ID   string
	Size int64 // bytes
}

// HistoryEntry is one step of an image's making, newest first.
type HistoryEntry struct {
	ID        string // "<missing>" for steps that no local image stands for
	Created   *time.Time
	CreatedBy string
	Size      int64 // bytes
	Comment   string
	Tags      []string
}

// RemoveOptions say how to remove images.
type RemoveOptions struct {
	Force   bool // also images with several names, by ID
	All     bool // every image; names must be empty
	NoPrune bool // keep untagged parents
	Ignore  bool // names that do not exist are no error
}

// RemoveReport is what became of one image.
type RemoveReport struct {
	ID       string
	Deleted  bool     // else it only lost names
	Untagged []string // names that it lost
	Size     int64    // bytes that its layers had; only from Prune
}

// LoginOptions say how to log in to a registry.
type LoginOptions struct {
	User          string
	Password      string
	PasswordStdin bool // read the password from Stdin
	GetLogin      bool // only print who is logged in
	Verbose       bool
	AuthFile      string
	CompatFile    string // a docker configuration file to write instead
	CertDir       string
	TLSVerify     *bool
	Stdin         io.Reader // asked for user and password where the flags do not say
	Stdout        io.Writer // prompts and "Login Succeeded!"
}

// LogoutOptions say what to forget.
type LogoutOptions struct {
	All        bool // every registry
	AuthFile   string
	CompatFile string
	Stdout     io.Writer
}
