package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
)

// imageListOptions are the flags of images.
type imageListOptions struct {
	listing
	filters                             []string
	sort                                string
	all, digests, history, noTrunc, ids bool
}

func imageListCommand(a *app) *cobra.Command {
	var o imageListOptions
	c := &cobra.Command{
		Use:  "ls [options] [IMAGE]",
		Long: "Lists images previously pulled to the system or created on the system.",
		Example: "  cove images --format json\n" +
			"  cove images --sort repository --format \"table {{.ID}} {{.Repository}} {{.Tag}}\"\n" +
			"  cove images --filter dangling=true",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeLocalImages(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				if len(o.filters) > 0 {
					return errors.New("cannot specify an image and a filter(s)")
				}
				o.filters = append(o.filters, "reference="+args[0])
			}
			if err := o.check(); err != nil {
				return err
			}
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			images, err := eng.Images(c.Context(), image.ListOptions{All: o.all, Filters: o.filters})
			if err != nil {
				return err
			}
			return a.printImages(o, images, time.Now())
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&o.all, "all", "a", false, "Show all images (default hides intermediate images)")
	fs.BoolVar(&o.digests, "digests", false, "Show digests")
	fs.StringArrayVarP(&o.filters, "filter", "f", nil, "Filter output based on conditions provided")
	fs.StringVar(&o.format, "format", "", "Change the output format to JSON or a Go template")
	fs.BoolVar(&o.history, "history", false, "Display the image name history")
	fs.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
	fs.BoolVarP(&o.noHeading, "noheading", "n", false, "Do not print column headings")
	fs.BoolVarP(&o.ids, "quiet", "q", false, "Display only image IDs")
	fs.StringVar(&o.sort, "sort", "created", "Sort by id, repository, size, tag, created")
	refuse(fs, []unsupported{{name: "tree", bool: true}})
	return c
}

// check refuses what cannot be.
func (o *imageListOptions) check() error {
	if imageOrders()[o.sort] == nil {
		return usagef("%q is not a valid field for sorting. Choose from: created, id, repository, size, tag", o.sort)
	}
	if o.ids && o.digests {
		return usagef("cannot combine --quiet and --digests flags")
	}
	known := []string{
		"after", "before", "containers", "dangling", "digest", "id", "intermediate",
		"label", "manifest", "readonly", "reference", "since", "until",
	}
	for _, k := range known {
		known = append(known, k+"!") // all can be turned round
	}
	_, err := parseFilters("image", o.filters, known)
	return err
}

// printImages writes the list in the form that o asks for.
func (a *app) printImages(o imageListOptions, images []image.Summary, now time.Time) error {
	rows := imageRows(images, o.sort, o.noTrunc, now)
	switch {
	case isJSON(o.format):
		return a.printJSONIndent(imageJSON(rows), "    ")
	case o.ids:
		return a.printImageIDs(rows)
	}
	o.columns = "{{.Repository}}\t{{.Tag}}\t"
	if o.digests {
		o.columns += "{{.Digest}}\t"
	}
	o.columns += "{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	if o.history {
		o.columns += "\t{{.History}}"
	}
	if slices.ContainsFunc(images, func(i image.Summary) bool { return i.ReadOnly }) {
		o.columns += "\t{{.ReadOnly}}"
	}
	o.headers = map[string]string{"ID": "IMAGE ID", "CreatedSince": "CREATED", "ReadOnly": "R/O"}
	return a.list(o.listing, anys(rows))
}

// printImageIDs writes each image's ID once, in the order of rows.
func (a *app) printImageIDs(rows []imageRow) error {
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.Summary.ID] {
			continue
		}
		seen[r.Summary.ID] = true
		if _, err := fmt.Fprintln(a.Out, r.ID()); err != nil {
			return err
		}
	}
	return nil
}

// none stands for a name that an image does not have.
const none = "<none>"

// imageRow is one name of an image, as lists print it. A field of
// Summary's that has a method here is printed by that.
type imageRow struct {
	image.Summary
	Repository, Tag string
	noTrunc         bool
	now             time.Time
}

// MarshalJSON is for {{json .}}: podman's names.
func (r imageRow) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		imageEntry
		Repository string `json:"repository"`
		Tag        string `json:"tag"`
	}{r.entry(), r.Repository, r.Tag})
}

// imageRows makes a row of every name, one for an image without.
func imageRows(images []image.Summary, order string, noTrunc bool, now time.Time) []imageRow {
	var rows []imageRow
	for _, i := range images {
		named := false
		var digested *imageRow // only a name with digest: its tag is none
		for _, name := range i.Names {
			repo, tag := splitTag(name)
			r := imageRow{i, repo, tag, noTrunc, now}
			if tag == none {
				if digested == nil {
					digested = &r
				}
				continue
			}
			rows, named = append(rows, r), true
		}
		switch {
		case named:
		case digested != nil:
			rows = append(rows, *digested)
		default:
			rows = append(rows, imageRow{i, none, none, noTrunc, now})
		}
	}
	slices.SortStableFunc(rows, imageOrders()[order])
	return rows
}

// splitTag gives repository and tag of a full name; a name with a digest has
// no tag.
func splitTag(name string) (repo, tag string) {
	if name, _, ok := strings.Cut(name, "@"); ok {
		repo, _ := splitTag(name)
		return repo, none
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	return name, none
}

// imageOrders are the values of --sort.
func imageOrders() map[string]func(a, b imageRow) int {
	return map[string]func(a, b imageRow) int{
		"created": func(a, b imageRow) int { return b.Summary.Created.Compare(a.Summary.Created) },
		"id":      func(a, b imageRow) int { return strings.Compare(a.Summary.ID, b.Summary.ID) },
		"repository": func(a, b imageRow) int {
			return cmp.Or(strings.Compare(a.Repository, b.Repository), strings.Compare(a.Tag, b.Tag))
		},
		"size": func(a, b imageRow) int { return cmp.Compare(a.Summary.Size, b.Summary.Size) },
		"tag":  func(a, b imageRow) int { return strings.Compare(a.Tag, b.Tag) },
	}
}

// ID is short, or with its algorithm.
func (r imageRow) ID() string {
	if r.noTrunc {
		return "sha256:" + strings.TrimPrefix(r.Summary.ID, "sha256:")
	}
	return shortID(r.Summary.ID, false)
}

// Created and CreatedSince are how long ago; CreatedAt is when.
func (r imageRow) Created() string      { return r.CreatedSince() }
func (r imageRow) CreatedSince() string { return ago(r.now, r.Summary.Created) }
func (r imageRow) CreatedAt() string    { return r.Summary.Created.UTC().String() }
func (r imageRow) CreatedTime() string  { return r.CreatedAt() }

// Size is for people.
func (r imageRow) Size() string { return imageSize(r.Summary.Size) }

// What podman's templates have beside: its spellings, and plain numbers.
func (r imageRow) Id() string           { return r.Summary.ID }
func (r imageRow) ParentId() string     { return r.ParentID }
func (r imageRow) Os() string           { return r.OS }
func (r imageRow) VirtualSize() int64   { return r.Summary.Size }
func (r imageRow) SharedSize() int64    { return 0 } // system df tells
func (r imageRow) IsDangling() bool     { return r.Dangling }
func (r imageRow) IsReadOnly() bool     { return r.ReadOnly }
func (r imageRow) IsManifestList() bool { return false }

// ImageSummary is what podman's rows have in themselves, in its order.
func (r imageRow) ImageSummary() any {
	s := r.Summary
	return struct {
		ID, ParentId                       string
		RepoTags, RepoDigests              []string
		Created, Size, SharedSize, Virtual int64
		Labels                             map[string]string
		Containers                         int
		ReadOnly, Dangling                 bool
		Arch, Digest                       string
		History                            []string
		IsManifestList                     *bool
		Names                              []string
		Os                                 string
	}{
		ID: s.ID, ParentId: s.ParentID, RepoTags: s.RepoTags, RepoDigests: s.RepoDigests, Created: s.Created.Unix(), Size: s.Size,
		Virtual: s.Size, Labels: s.Labels, Containers: s.Containers, ReadOnly: s.ReadOnly, Dangling: s.Dangling, Digest: s.Digest,
		History: s.History, Names: s.Names, // podman leaves the others out here
	}
}

// History is the former names.
func (r imageRow) History() string { return strings.Join(r.Summary.History, ", ") }

// Digest is the manifest's digest.
func (r imageRow) Digest() string {
	if r.Summary.Digest == "" {
		return none
	}
	return r.Summary.Digest
}

// imageSize writes bytes as podman's image lists do: three digits, a space
// and the unit.
func imageSize(bytes int64) string {
	s := units.HumanSizeWithPrecision(float64(bytes), 3)
	i := strings.LastIndexAny(s, "0123456789") + 1
	return s[:i] + " " + s[i:]
}

// imageEntry is an image in the JSON of images, which is podman's.
type imageEntry struct {
	ID             string `json:"Id"`
	ParentId       string
	RepoTags       []string
	RepoDigests    []string
	Size           int64
	SharedSize     int64
	VirtualSize    int64
	Labels         map[string]string
	Containers     int
	ReadOnly       bool `json:",omitempty"`
	Dangling       bool `json:",omitempty"`
	Arch           string
	Digest         string
	History        []string
	IsManifestList bool
	Names          []string
	Os             string
	Created        int64 // Unix seconds
	CreatedAt      string
}

// imageJSON has an entry for every row, as podman's.
func imageJSON(rows []imageRow) []imageEntry {
	out := make([]imageEntry, len(rows))
	for i, r := range rows {
		out[i] = r.entry()
	}
	return out
}

func (r imageRow) entry() imageEntry {
	s, at := r.Summary, r.Summary.Created.UTC()
	return imageEntry{
		ID: s.ID, ParentId: s.ParentID, RepoTags: s.RepoTags, RepoDigests: s.RepoDigests,
		Size: s.Size, VirtualSize: s.Size, Labels: s.Labels, Containers: s.Containers,
		ReadOnly: s.ReadOnly, Dangling: s.Dangling, Arch: s.Arch, Digest: s.Digest, History: s.History,
		Names: s.Names, Os: s.OS, Created: at.Unix(), CreatedAt: at.Format(time.RFC3339Nano),
	}
}
