package library

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"syscall"
	"unicode"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	ociarchive "go.podman.io/image/v5/oci/archive"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"
	imagestorage "go.podman.io/image/v5/storage"
	"go.podman.io/storage"

	"github.com/cove-engine/cove"
)

// fail makes the error of op on object, with the kind that its cause has.
// nil stays nil.
func fail(op, object string, err error) error {
	if err == nil {
		return nil
	}
	return cove.E(op, object, kind(err), plain(err))
}

// failContent is fail for operations that read an image from outside: a cause
// that is neither the network's, the registry's nor the system's is a fault
// of what was read (a wrong digest, a torn layer, a path out of the root).
// The libraries have no types for those, and their unpacking child reports
// text only.
func failContent(op, object string, err error) error {
	if err == nil {
		return nil
	}
	k := kind(err)
	if _, system := errors.AsType[syscall.Errno](err); k == cove.Internal && !system && !errors.Is(err, context.Canceled) {
		k = cove.Invalid
	}
	if k == cove.Invalid && childFull(err) {
		k = cove.Unavailable
	}
	return cove.E(op, object, k, plain(err))
}

// childFull reports that the storage library's unpacking child ran out of
// space. The child has no other channel than its standard error, which ends in
// the error number's text, so this is the one place that reads a text. A
// hostile layer that forges it changes the exit code of its own refusal.
func childFull(err error) bool {
	text := err.Error()
	return strings.Contains(text, syscall.ENOSPC.Error()+")") || strings.Contains(text, syscall.EDQUOT.Error()+")")
}

// kind classifies the libraries' errors by type and value.
func kind(err error) cove.Kind {
	if e, ok := errors.AsType[*cove.Error](err); ok {
		return e.Kind
	}
	for _, c := range []struct {
		kind   cove.Kind
		values []error
	}{
		{cove.NotFound, []error{storage.ErrImageUnknown, storage.ErrLayerUnknown, storage.ErrNotAnImage, imagestorage.ErrNoSuchImage}},
		{cove.Exists, []error{storage.ErrDuplicateName, storage.ErrDuplicateID}},
		{cove.InUse, []error{storage.ErrImageUsedByContainer, storage.ErrLayerUsedByContainer, storage.ErrLayerUsedByImage, storage.ErrLayerHasChildren}},
		{cove.Unavailable, []error{docker.ErrTooManyRequests, context.DeadlineExceeded, syscall.ENOSPC, syscall.EDQUOT, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH}},
		{cove.Invalid, []error{
			reference.ErrReferenceInvalidFormat, reference.ErrTagInvalidFormat, reference.ErrDigestInvalidFormat,
			reference.ErrNameContainsUppercase, reference.ErrNameEmpty, reference.ErrNameTooLong, reference.ErrNameNotCanonical,
			imagestorage.ErrBlobDigestMismatch, imagestorage.ErrBlobSizeMismatch, imagestorage.ErrInvalidReference,
			gzip.ErrHeader, gzip.ErrChecksum, io.ErrUnexpectedEOF,
		}},
		{cove.Denied, []error{fs.ErrPermission}},
		{cove.NoFile, []error{fs.ErrNotExist}},
	} {
		for _, v := range c.values {
			if errors.Is(err, v) {
				return c.kind
			}
		}
	}
	if isType[docker.ErrUnauthorizedForCredentials](err) || isType[signature.PolicyRequirementError](err) || isType[signature.InvalidSignatureError](err) {
		return cove.Denied
	}
	if isType[ocilayout.ImageNotFoundError](err) || isType[ociarchive.ImageNotFoundError](err) {
		return cove.NotFound
	}
	if isType[ociarchive.ArchiveFileNotFoundError](err) {
		return cove.NoFile
	}
	if e, ok := errors.AsType[docker.UnexpectedHTTPStatusError](err); ok {
		return statusKind(e.StatusCode)
	}
	if e, ok := errors.AsType[errcode.Error](err); ok {
		return codeKind(e.Code)
	}
	if e, ok := errors.AsType[errcode.ErrorCode](err); ok {
		return codeKind(e)
	}
	if es, ok := errors.AsType[errcode.Errors](err); ok && len(es) > 0 {
		return kind(es[0])
	}
	if isNetwork(err) {
		return cove.Unavailable
	}
	return cove.Internal
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// isNetwork reports a registry that cannot be reached or is not who it should
// be.
func isNetwork(err error) bool {
	if isType[net.Error](err) || isType[*url.Error](err) || isType[*net.OpError](err) || isType[*net.DNSError](err) {
		return true
	}
	return isType[*tls.CertificateVerificationError](err) || isType[tls.RecordHeaderError](err) ||
		isType[x509.UnknownAuthorityError](err) || isType[x509.HostnameError](err) || isType[x509.CertificateInvalidError](err)
}

// codeKind classifies the distribution specification's error codes.
func codeKind(c errcode.ErrorCode) cove.Kind {
	switch c {
	case errcode.ErrorCodeUnauthorized, errcode.ErrorCodeDenied:
		return cove.Denied
	case v2.ErrorCodeManifestUnknown, v2.ErrorCodeNameUnknown, v2.ErrorCodeBlobUnknown, v2.ErrorCodeManifestBlobUnknown:
		return cove.NotFound
	case errcode.ErrorCodeUnsupported:
		return cove.Unsupported
	case v2.ErrorCodeDigestInvalid, v2.ErrorCodeManifestInvalid, v2.ErrorCodeNameInvalid, v2.ErrorCodeSizeInvalid, v2.ErrorCodeTagInvalid:
		return cove.Invalid
	}
	return statusKind(c.Descriptor().HTTPStatusCode)
}

func statusKind(code int) cove.Kind {
	switch {
	case code == 401 || code == 403:
		return cove.Denied
	case code == 404:
		return cove.NotFound
	case code == 429 || code >= 500:
		return cove.Unavailable
	}
	return cove.Invalid
}

// plainError is an error whose text is one line.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }

// plain makes the libraries' lists of errors ("2 errors occurred: …" over
// several lines) one line, and shows what a terminal would obey: names of a
// hostile layer's files are in them. A reference without a name ends in a colon
// and has another one follow.
func plain(err error) error {
	text := strings.ReplaceAll(err.Error(), ":: ", ": ")
	if !strings.ContainsFunc(text, unicode.IsControl) {
		return &plainError{text, err}
	}
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(strings.TrimSpace(l), "* ")
	}
	return &plainError{visible(strings.Join(lines, "; ")), err}
}

// visible writes out what a terminal would obey.
func visible(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsControl(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
