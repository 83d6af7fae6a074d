package cli

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
)

const (
	imageID     = "89e0cae5b0b337cb6f28116f0b3e0d2dc38912ff695e707bb29de247be8769dc"
	otherID     = "0a3b0b7e54b1a0df6d1b0f0f4a1a0f0e54b1a0df6d1b0f0f4a1a0f0e54b1a0df"
	imageDigest = "sha256:8d070e96254b3afd9ae72ca1c35fc013e93c6b950dc45df452d4bf2f50476fd8"
)

// someImages has an image of two names and a nameless one.
func someImages() *objectsEngine {
	now := time.Now()
	made := now.Add(-2*time.Hour - time.Minute)
	older := now.Add(-3 * 24 * time.Hour)
	return &objectsEngine{
		images: []image.Summary{
			{ID: otherID, Created: older, Size: 5_540_000, Dangling: true},
			{ID: imageID, Names: []string{"docker.io/library/foo:1", "localhost:5000/bar:2"}, RepoTags: []string{"docker.io/library/foo:1", "localhost:5000/bar:2"},
				Digest: imageDigest, Created: made, Size: 11349, Labels: map[string]string{"a": "b"}, History: []string{"localhost:5000/bar:2", "docker.io/library/foo:1"}, OS: "linux", Arch: "amd64"},
		},
		layers: []image.HistoryEntry{
			{ID: imageID, Created: &made, CreatedBy: "/bin/sh -c #(nop) ADD file:bcea1781f91a3a52e3d42737df3bb123ad2254836a638d3e434e4ea9b61ee374 in /", Size: 10240, Comment: "msg", Tags: []string{"docker.io/library/foo:1"}},
			{ID: "<missing>", CreatedBy: "CMD"},
		},
		fail: map[string]error{"busy": cove.E("remove image", "busy", cove.InUse, errors.New("image used by c1"))},
	}
}

func TestImageCommands(t *testing.T) {
	warning := "WARNING! This command removes all dangling images.\nAre you sure you want to continue? [y/N] "
	plain := "" +
		"docker.io/library/foo  1           89e0cae5b0b3  2 hours ago  11.3 kB\n" +
		"localhost:5000/bar     2           89e0cae5b0b3  2 hours ago  11.3 kB\n" +
		"<none>                 <none>      0a3b0b7e54b1  3 days ago   5.54 MB\n"
	listed := []string{"images false []"}
	for _, c := range []struct {
		name  string
		args  string
		stdin string
		code  int
		out   string
		err   string
		calls []string
	}{
		{name: "images", args: "images", calls: listed, out: "REPOSITORY             TAG         IMAGE ID      CREATED      SIZE\n" + plain},
		{name: "image ls", args: "image ls -n", calls: listed, out: plain},
		{name: "image list -a", args: "image list -a -n -f dangling=true --filter label!=x", calls: []string{"images true [dangling=true label!=x]"}, out: plain},
		{name: "images name", args: "images -n foo", calls: []string{"images false [reference=foo]"}, out: plain},
		{name: "images name and filter", args: "images -f label=x foo", code: 125, err: "cannot specify an image and a filter(s)"},
		{name: "images -q", args: "images -q", calls: listed, out: "89e0cae5b0b3\n0a3b0b7e54b1\n"},
		{name: "images -q long", args: "images -q --no-trunc --sort id", calls: listed, out: "sha256:" + otherID + "\nsha256:" + imageID + "\n"},
		{name: "images digests", args: "images --digests --history --noheading --sort size", calls: listed, out: "" +
			"docker.io/library/foo  1           " + imageDigest + "  89e0cae5b0b3  2 hours ago  11.3 kB     localhost:5000/bar:2, docker.io/library/foo:1\n" +
			"localhost:5000/bar     2           " + imageDigest + "  89e0cae5b0b3  2 hours ago  11.3 kB     localhost:5000/bar:2, docker.io/library/foo:1\n" +
			"<none>                 <none>      <none>" + strings.Repeat(" ", 67) + "0a3b0b7e54b1  3 days ago   5.54 MB     \n"},
		{name: "images sort tag", args: "images --format {{.Repository}}:{{.Tag}} --sort tag", calls: listed, out: "docker.io/library/foo:1\nlocalhost:5000/bar:2\n<none>:<none>\n"},
		{name: "images template", args: "images --format {{.ID}}|{{.Created}}|{{.Size}}|{{.VirtualSize}}|{{.Os}}|{{.Labels.a}} --sort size", calls: listed, out: "" +
			"89e0cae5b0b3|2 hours ago|11.3 kB|11349|linux|b\n89e0cae5b0b3|2 hours ago|11.3 kB|11349|linux|b\n0a3b0b7e54b1|3 days ago|5.54 MB|5540000||<no value>\n"},
		{name: "images bad sort", args: "images --sort foo", code: 125, err: `"foo" is not a valid field for sorting. Choose from: created, id, repository, size, tag`},
		{name: "images bad filter", args: "images -f foo=1", code: 125, err: `"foo" is an invalid image filter`},
		{name: "images two", args: "images a b", code: 125, err: "accepts at most 1 arg(s)"},

		{name: "pull", args: "pull a b", out: "id-of-a\nid-of-b\n", err: "Trying to pull a...\nTrying to pull b...\n", calls: []string{"pull a", "pull b"}},
		{name: "pull -q", args: "image pull -q busy b", out: "id-of-b\n", code: 125, err: "image used by c1", calls: []string{"pull busy", "pull b"}},
		{name: "pull platform", args: "pull --platform a/b --arch c x", code: 125, err: "--platform option can not be specified with --arch or --os"},
		{name: "pull policy", args: "pull --policy sometimes x", code: 125, err: `unsupported pull policy "sometimes"`},
		{name: "pull nothing", args: "pull", code: 125, err: "requires at least 1 arg(s), only received 0"},
		{name: "pull bad delay", args: "pull --retry-delay soon x", code: 125, err: `invalid --retry-delay "soon"`},
		{name: "pull bad creds", args: "pull --creds :x y", code: 125, err: "invalid --creds"},
		{name: "pull key", args: "pull --decryption-key k y", code: 125, err: "--decryption-key is not supported by cove yet"},

		{name: "push", args: "push q:1", calls: []string{`push q:1 ""`}},
		{name: "push to", args: "push q:1 oci-archive:/tmp/z.tar", calls: []string{`push q:1 "oci-archive:/tmp/z.tar"`}},
		{name: "push nothing", args: "push", code: 125, err: "accepts between 1 and 2 arg(s), received 0"},
		{name: "push format", args: "push -f v3 q", code: 125, err: `unknown format "v3", choose from: oci, v2s1, v2s2`},
		{name: "push compression", args: "push --compression-format lz4 q", code: 125, err: `unknown compression format "lz4"`},

		{name: "rmi", args: "rmi docker.io/library/foo:1", out: "Untagged: docker.io/library/foo:1\nUntagged: localhost:5000/bar:2\nDeleted: " + imageID + "\n",
			calls: []string{"rmi [docker.io/library/foo:1] force=false all=false noprune=false ignore=false"}},
		{name: "rmi missing", args: "image rm zz", code: 1, err: "zz", calls: []string{"rmi [zz] force=false all=false noprune=false ignore=false"}},
		{name: "rmi -f missing", args: "rmi -f zz", calls: []string{"rmi [zz] force=true all=false noprune=false ignore=true"}},
		{name: "rmi -i missing", args: "rmi -i --no-prune zz", calls: []string{"rmi [zz] force=false all=false noprune=true ignore=true"}},
		{name: "rmi in use", args: "image remove busy zz " + otherID, code: 2, out: "Deleted: " + otherID + "\n", err: "image used by c1",
			calls: []string{"rmi [busy zz " + otherID + "] force=false all=false noprune=false ignore=false"}},
		{name: "rmi -a", args: "rmi -a", calls: []string{"rmi [] force=false all=true noprune=false ignore=false"}},
		{name: "rmi nothing", args: "rmi", code: 125, err: "image name or ID must be specified"},
		{name: "rmi -a name", args: "rmi -a x", code: 125, err: "when using the --all switch, you may not pass any images names or IDs"},

		{name: "tag", args: "tag q:1 a b:2", calls: []string{"tag q:1 [a b:2]"}},
		{name: "tag one", args: "tag x", code: 125, err: "requires at least 2 arg(s), only received 1"},
		{name: "untag", args: "image untag q:1", calls: []string{"untag q:1 []"}},
		{name: "untag names", args: "untag q:1 a", calls: []string{"untag q:1 [a]"}},

		{name: "load", args: "load -i x.tar", out: "Loaded image: localhost/q:1\nLoaded image: sha256:abc\n", calls: []string{`load "x.tar" true`}},
		{name: "load stdin", args: "load -q", stdin: "n:1", out: "Loaded image: n:1\n", calls: []string{`load "" false`}},
		{name: "load argument", args: "load x", code: 125, err: "`cove load` takes no arguments"},
		{name: "save", args: "save q:1", out: "TAR", calls: []string{"save [q:1]"}},
		{name: "save to", args: "save -q -m -o x.tar q:1 b", calls: []string{"save [q:1 b]"}},
		{name: "save nothing", args: "save", code: 125, err: "need at least 1 argument"},
		{name: "save format", args: "save --format zip q", code: 125, err: `unsupported --format "zip"`},
		{name: "save compress", args: "save --compress q", code: 125, err: "--compress can only be set when"},
		{name: "save dir", args: "save --format oci-dir q", code: 125, err: "name it with -o"},
		{name: "save colon", args: "save -o a:b q", code: 125, err: "should not contain ':'"},
		{name: "import", args: "import t.tar q:1", out: "sha256:abc\n", calls: []string{"import t.tar"}},
		{name: "import stdin", args: "import -q -c CMD=/bin/sh -m hello -", out: "sha256:abc\n", calls: []string{"import -"}},

		{name: "exists", args: "image exists docker.io/library/foo:1"},
		{name: "not exists", args: "image exists zz", code: 1},
		{name: "exists error", args: "image exists busy", code: 125, err: "image used by c1"},
		{name: "inspect none", args: "image inspect", code: 125, err: "no names or ids specified"},
		{name: "inspect missing", args: "image inspect zz", code: 125, out: "[]\n", err: "inspect image zz"},
		{name: "inspect template", args: "image inspect --format {{.ID}}|{{.Os}} " + imageID, out: imageID + "|linux\n"},
		{name: "inspect Id", args: "image inspect --format {{.Id}}|{{.Os}} " + imageID, out: imageID + "|linux\n"},

		{name: "history", args: "history " + imageID, out: "" +
			"ID            CREATED      CREATED BY                                     SIZE        COMMENT\n" +
			"89e0cae5b0b3  2 hours ago  /bin/sh -c #(nop) ADD file:bcea1781f91a3a5...  10.2kB      msg\n" +
			"<missing>                  CMD                                            0B          \n"},
		{name: "history -q", args: "history -q --no-trunc " + imageID, out: imageID + "\n<missing>\n"},
		{name: "history bytes", args: "history --human=false --format {{.Size}}|{{.Tags}} " + imageID, out: "10240|[docker.io/library/foo:1]\n0|[]\n"},
		{name: "history missing", args: "history zz", code: 125, err: "zz"},

		{name: "prune", args: "image prune", stdin: "y\n", out: warning + "i1\n", calls: []string{"prune images false []"}},
		{name: "prune no", args: "image prune", stdin: "n\n", out: warning},
		{name: "prune without answer", args: "image prune", code: 125, out: warning, err: "EOF"},
		{name: "prune -a", args: "image prune -a", stdin: "n\n",
			out: "WARNING! This command removes all images without at least one container associated with them.\nAre you sure you want to continue? [y/N] "},
		{name: "prune -af", args: "image prune -af --filter until=1h --filter label!=keep", out: "i1\n", calls: []string{"prune images true [until=1h label!=keep]"}},
		{name: "search", args: "search busybox", code: 125, err: "cove search: not supported by cove yet"},
		{name: "image tree", args: "image tree --whatels x", code: 125, err: "cove image tree: not supported by cove yet"},

		{name: "login both", args: "login -p x --password-stdin quay.io", code: 125, err: "Can't specify both --password-stdin and --password"},
		{name: "login no user", args: "login --password-stdin quay.io", code: 125, err: "Must provide --username with --password-stdin"},
		{name: "login", args: "login -u u -p p --tls-verify=false quay.io", calls: []string{`login "quay.io"`}},
		{name: "logout", args: "logout --authfile f quay.io", calls: []string{`logout "quay.io" false "f"`}},
		{name: "logout all", args: "logout -a", calls: []string{`logout "" true ""`}},
		{name: "logout all of one", args: "logout -a quay.io", code: 125, err: "--all takes no arguments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := someImages()
			e.on(t, c.stdin, strings.Fields(c.args)...).want(t, c.code, c.out, c.err)
			e.wantCalls(t, c.calls...)
		})
	}
}

// containers.conf's multi_image_archive is the flag's default, where archives
// can have several images.
func TestSaveConfigured(t *testing.T) {
	for args, want := range map[string]bool{
		"save q:1": true, "save --multi-image-archive=false q:1": false, "save --format oci-archive q:1": false,
	} {
		e := someImages()
		e.multi = true
		e.on(t, "", strings.Fields(args)...)
		if e.save.MultiImageArchive != want {
			t.Errorf("%s: %v", args, e.save.MultiImageArchive)
		}
	}
}

func TestImageListJSON(t *testing.T) {
	e := someImages()
	e.images = e.images[1:]
	e.images[0].Created = time.Date(2026, 11, 23, 23, 3, 57, 0, time.UTC)
	e.images[0].Names = e.images[0].Names[:1]
	e.on(t, "", "images", "--format", "json").want(t, 0, `[
    {
        "Id": "`+imageID+`",
        "ParentId": "",
        "RepoTags": [
            "docker.io/library/foo:1",
            "localhost:5000/bar:2"
        ],
        "RepoDigests": null,
        "Size": 11349,
        "SharedSize": 0,
        "VirtualSize": 11349,
        "Labels": {
            "a": "b"
        },
        "Containers": 0,
        "Arch": "amd64",
        "Digest": "`+imageDigest+`",
        "History": [
            "localhost:5000/bar:2",
            "docker.io/library/foo:1"
        ],
        "IsManifestList": false,
        "Names": [
            "docker.io/library/foo:1"
        ],
        "Os": "linux",
        "Created": 1795475037,
        "CreatedAt": "2026-11-23T23:03:57Z"
    }
]
`, "")
	e.images = nil
	e.on(t, "", "images", "--format", "json").want(t, 0, "[]\n", "")
	e.on(t, "", "images").want(t, 0, "REPOSITORY  TAG         IMAGE ID    CREATED     SIZE\n", "")
}

func TestImageHistoryJSON(t *testing.T) {
	e := someImages()
	at := time.Date(2026, 11, 23, 23, 3, 57, 680984948, time.UTC)
	e.layers[0].Created, e.layers[0].CreatedBy = &at, "ADD <x> & y"
	e.on(t, "", "history", "--format", "json", imageID).want(t, 0,
		`[{"id":"`+imageID+`","created":"2026-11-23T23:03:57.680984948Z","CreatedBy":"ADD <x> & y","size":10240,"comment":"msg","tags":["docker.io/library/foo:1"]},`+
			`{"id":"<missing>","CreatedBy":"CMD","size":0}]`+"\n", "")
}

func TestImageTransferFlags(t *testing.T) {
	e := someImages()
	e.on(t, "", "pull", "-q", "--tls-verify=false", "--creds", "u:p", "--authfile", "/dev/null", "--cert-dir", "c", "--signature-policy", "s",
		"--retry", "7", "--retry-delay", "2s", "-a", "--policy", "Newer", "--arch", "arm", "--variant", "v7", "x").want(t, 0, "id-of-x\n", "")
	p := e.pull
	switch {
	case p.TLSVerify == nil || *p.TLSVerify, p.Creds != "u:p", p.AuthFile != "/dev/null", p.CertDir != "c", p.SignaturePolicy != "s",
		p.Retries == nil || *p.Retries != 7, p.RetryDelay == nil || *p.RetryDelay != 2*time.Second,
		!p.AllTags, p.Policy != "newer", p.Platform != "linux/arm/v7", p.Progress != nil:
		t.Errorf("pull options %+v", p)
	}
	e.on(t, "", "pull", "x").want(t, 0, "id-of-x\n", "Trying")
	if p := e.pull; p.TLSVerify != nil || p.Retries != nil || p.RetryDelay != nil || p.Policy != "always" || p.Platform != "" {
		t.Errorf("default pull options %+v", p)
	}
	e.on(t, "", "push", "--digestfile", "d", "-f", "oci", "--compression-format", "zstd", "--compression-level", "0", "--force-compression",
		"--remove-signatures", "--sign-by", "k", "--sign-passphrase-file", tempFile(t, "secret\n"), "x", "y").want(t, 0, "", "")
	if p := e.push; p.DigestFile != "d" || p.Format != "oci" || p.Compression != "zstd" || p.CompressionLevel == nil || *p.CompressionLevel != 0 ||
		!p.ForceCompression || !p.RemoveSignatures || p.SignBy != "k" || p.SignPassphrase != "secret" {
		t.Errorf("push options %+v", p)
	}
	e.on(t, "", "import", "-c", "CMD a", "-c", "ENV b=c", "-m", "msg", "--os", "o", "--arch", "r", "--variant", "v", "-", "name").want(t, 0, "sha256:abc\n", "")
	if o := e.imported; len(o.Changes) != 2 || o.Message != "msg" || o.OS != "o" || o.Arch != "r" || o.Variant != "v" || o.Reference != "name" || o.Stdin == nil {
		t.Errorf("import options %+v", o)
	}
	e.on(t, "", "login", "--get-login", "-v", "--cert-dir", "c", "quay.io").want(t, 0, "", "")
	if o := e.login; !o.GetLogin || !o.Verbose || o.CertDir != "c" || o.TLSVerify != nil || o.Stdout == nil {
		t.Errorf("login options %+v", o)
	}
}

func TestPlatformFlags(t *testing.T) {
	for _, c := range []struct {
		in   platformFlags
		want string
	}{
		{platformFlags{}, ""},
		{platformFlags{platform: "linux/arm64"}, "linux/arm64"},
		{platformFlags{platform: "linux/arm", variant: "v6"}, "linux/arm/v6"},
		{platformFlags{os: "freebsd", arch: "arm64"}, "freebsd/arm64"},
		{platformFlags{platform: "linux/arm/v7", variant: "v6"}, "!"},
		{platformFlags{platform: "linux", os: "linux"}, "!"},
	} {
		got, err := c.in.value()
		if err != nil {
			got = "!"
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestSplitTag(t *testing.T) {
	for name, want := range map[string][2]string{
		"docker.io/library/foo:1":     {"docker.io/library/foo", "1"},
		"localhost:5000/bar":          {"localhost:5000/bar", none},
		"localhost:5000/bar:x":        {"localhost:5000/bar", "x"},
		"q.io/a/b@" + imageDigest:     {"q.io/a/b", none},
		"q.io/a/b:tag@" + imageDigest: {"q.io/a/b", none},
	} {
		if repo, tag := splitTag(name); repo != want[0] || tag != want[1] {
			t.Errorf("%s: %s %s, want %v", name, repo, tag, want)
		}
	}
}
