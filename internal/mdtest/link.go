package mdtest

import (
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

var (
	inlineLink = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)>?(?:\s+["'(][^)]*)?\s*\)`)
	refLink    = regexp.MustCompile(`^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)>?`)
	htmlLink   = regexp.MustCompile(`(?:href|src)="([^"]+)"`)
	codeSpan   = regexp.MustCompile("`+[^`]*`+")
	heading    = regexp.MustCompile(`^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$`)
	linkText   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// checkLinks returns one fault for each link of document name to a place in
// the repository that does not exist. Links to other hosts are not followed.
func checkLinks(fsys fs.FS, name, doc string) []fault {
	var faults []fault
	for i, line := range prose(doc) {
		line = codeSpan.ReplaceAllString(line, "")
		for _, re := range []*regexp.Regexp{inlineLink, refLink, htmlLink} {
			for _, m := range re.FindAllStringSubmatch(line, -1) {
				if why := broken(fsys, name, m[1]); why != "" {
					faults = append(faults, fault{i + 1, fmt.Sprintf("link to %s: %s", m[1], why)})
				}
			}
		}
	}
	return faults
}

// prose returns the lines of a document with those of fenced blocks blanked.
func prose(doc string) []string {
	lines := strings.Split(doc, "\n")
	blocks, err := fences(lines)
	if err != nil {
		return lines // checkFences reports it
	}
	for _, b := range blocks {
		for i := b.begin; i < b.end; i++ {
			lines[i] = ""
		}
	}
	return lines
}

// broken returns what is wrong with a link of document name, or "".
func broken(fsys fs.FS, name, link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return "this is no address; correct it"
	}
	if u.Scheme != "" || u.Host != "" {
		return ""
	}
	to := name
	if u.Path != "" {
		to = path.Join(path.Dir(name), u.Path)
		if strings.HasPrefix(u.Path, "/") {
			to = path.Clean(strings.TrimPrefix(u.Path, "/"))
		}
		if !fs.ValidPath(to) {
			return "it leads out of the repository; link to a file inside, or to a full address"
		}
		if _, err := fs.Stat(fsys, to); err != nil {
			return fmt.Sprintf("%s does not exist in the repository; correct the link or add the file", to)
		}
	}
	if u.Fragment == "" || path.Ext(to) != ".md" {
		return ""
	}
	doc, err := fs.ReadFile(fsys, to)
	if err != nil {
		return err.Error()
	}
	if !anchors(string(doc))[strings.ToLower(u.Fragment)] {
		return fmt.Sprintf("%s has no heading for #%s; use the heading's words in lower case, joined by hyphens", to, u.Fragment)
	}
	return ""
}

// anchors returns the fragments that the headings of a document answer to.
func anchors(doc string) map[string]bool {
	found := make(map[string]bool)
	for _, line := range prose(doc) {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		slug := slugOf(linkText.ReplaceAllString(m[1], "$1"))
		unique := slug
		for n := 1; found[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", slug, n)
		}
		found[unique] = true
	}
	return found
}

func slugOf(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}
