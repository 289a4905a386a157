package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/auth"
	"github.com/opencmq/cmq/internal/cmq"
)

// FuzzForm compares the parser with net/url, which differs in two points: it refuses ';' and takes a pair
// without a name.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{"a=1&b=2", "a=%41+b&&c", "a=%", "a=%4", "%zz=1", "=x", "a==b", "msgBody.1=%E4%BD%A0", "a=b=c&a=b%26c", "+=+", strings.Repeat("a&", 300)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.IndexByte(text, ';') >= 0 {
			return
		}
		given := string(text)
		params, err := parseForm(nil, text, "body", len(given)+1)
		want, wantErr := url.ParseQuery(given)
		if _, unnamed := want[""]; unnamed {
			if err == nil {
				t.Fatalf("%q: a pair without a name is accepted", given)
			}
			return
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, net/url: %v", given, err, wantErr)
		}
		if err != nil {
			return
		}
		got := make(url.Values)
		for _, p := range params {
			got.Add(string(p.Name), string(p.Value))
		}
		if got.Encode() != want.Encode() {
			t.Fatalf("%q: %v, net/url: %v", given, got, want)
		}
	})
}

// FuzzQuote: what is written is valid JSON and reads back as the text with every bad byte replaced.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "plain", "\"\\\x00\x1f\x7f", "你好😀", "\xff\xfe", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\u2028", "\uFFFD", "\xc3", "a\xe4\xbd"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		quoted := appendBytes(nil, text)
		if fromString := appendString(nil, string(text)); !bytes.Equal(quoted, fromString) {
			t.Fatalf("%q: %s as bytes, %s as string", text, quoted, fromString)
		}
		var back string
		if err := json.Unmarshal(quoted, &back); err != nil {
			t.Fatalf("%q: %s: %v", text, quoted, err)
		}
		if want := replaceInvalid(text); back != want {
			t.Fatalf("%q: %q, want %q", text, back, want)
		}
		if !utf8.Valid(quoted) || bytes.ContainsAny(quoted, "\n\r\x00") {
			t.Fatalf("%q: %q", text, quoted)
		}
	})
}

// replaceInvalid ranges over the text, which gives U+FFFD once for every bad byte.
func replaceInvalid(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		b.WriteRune(r)
	}
	return b.String()
}

func FuzzHandle(f *testing.F) {
	for _, seed := range []string{"0", "1", "18446744073709551615", "18446744073709551616", "01", "-1", "+1", "", "1a", "１"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		handle, refusal := parseHandle([]byte(text))
		if canonical := handle.String() == text; canonical != (refusal == nil) && !(text == "0" && refusal == nil) {
			t.Fatalf("%q: %v, %v", text, handle, refusal)
		}
		if refusal == nil {
			if again, refusal := parseHandle([]byte(handle.String())); again != handle || refusal != nil {
				t.Fatalf("%q: %v, then %v", text, handle, again)
			}
		}
	})
}

func FuzzDecimal(f *testing.F) {
	for _, seed := range []string{"0", "-1", "9223372036854775807", "9223372036854775808", "+1", "", "-", "0x1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		value, ok := parseDecimal([]byte(text))
		want, err := strconv.ParseInt(text, 10, 64)
		switch {
		case strings.HasPrefix(text, "+"):
			if ok {
				t.Fatalf("%q is a number", text)
			}
		case ok && value != want:
			t.Fatalf("%q: %d, want %d", text, value, want)
		case !ok && err == nil:
			t.Fatalf("%q is no number", text)
		}
	})
}

func FuzzDeadLetterPolicy(f *testing.F) {
	for _, seed := range []string{dlq0, `{"deadLetterQueue":"d","policy":1,"maxTimeToLive":300}`, `{}`, `[]`, `{"a":{"b":[1,2]}}`, `{"a":1,"a":2}`, `{"policy":0`} {
		f.Add(seed)
	}
	limits := cmq.DefaultLimits()
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDeadLetterPolicy([]byte(text), &limits)
		if err != nil {
			return
		}
		if !json.Valid([]byte(text)) {
			t.Fatalf("%q is accepted", text)
		}
		q := &cmq.Queue{DeadLetterName: d.Queue}
		settings := cmq.QueueSettings{DeadLetter: d}
		q.Attributes, _ = settings.Apply(cmq.DefaultQueueAttributes(), 1)
		back, err := parseDeadLetterPolicy(appendDeadLetterPolicy(nil, q), &limits)
		if err != nil || back.Queue != d.Queue || back.Policy != d.Policy {
			t.Fatalf("%q: %+v, read back %+v, %v", text, d, back, err)
		}
	})
}

// FuzzRequest throws whole requests at the door: it must answer each with one JSON object and status 200.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{"", "Action=SendMessage&queueName=q&msgBody=x", "Action=BatchSendMessage&msgBody.0=1&msgBody.1=2&queueName=q", "Action=BatchDeleteMessage&receiptHandle.1=1&queueName=q",
		"Action=CreateQueue&queueName=n&deadLetterPolicy=%7B%7D", "Action=BatchReceiveMessage&numOfMsg=3&queueName=q", "Action=RewindQueue&startConsumeTime=1&queueName=q"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, form string) {
		polls := access.NewPolls(1)
		polls.Enter() // all taken, so that no poll waits on the clock that stands still
		r := newRig(t, func(c *Config) { c.AppIDOwner, c.Polls = "alice", polls })
		r.ok("CreateQueue", "queueName=q")
		answer := r.post(form + "&appId=1")
		var object struct {
			Code    *int
			Message *string
		}
		if err := json.Unmarshal([]byte(answer), &object); err != nil || object.Code == nil || object.Message == nil {
			t.Fatalf("%q: %s", form, answer)
		}
	})
}

// TestFormInPlace: the parser must not allocate for values, and names must not run into values.
func TestFormInPlace(t *testing.T) {
	text := []byte("msgBody=" + strings.Repeat("%41", 1000) + "&b=2")
	params := make([]auth.Param, 0, 4)
	var err error
	allocations := testing.AllocsPerRun(10, func() {
		params, err = parseForm(params[:0], text, "body", 4)
	})
	if err != nil || allocations != 0 || len(params) != 2 || len(params[0].Value) < 1000 {
		t.Errorf("%v allocations, %d parameters, %v", allocations, len(params), err)
	}
	if grown := append(params[0].Name, 'x'); &grown[0] == &params[0].Name[0] {
		t.Error("appending to a name overwrites what follows")
	}
}

// TestLookalikesAreCheap: that no two names are signed alike is found out without comparing each with each other, as
// strangers may send the largest request that there is.
func TestLookalikesAreCheap(t *testing.T) {
	params := make([]auth.Param, 256)
	for i := range params {
		params[i].Name = fmt.Appendf(nil, "name_%03d", i)
	}
	allocations := testing.AllocsPerRun(1, func() {
		if err := refuseDuplicates(params); err != nil {
			t.Error(err)
		}
	})
	if most := 2 * float64(len(params)); allocations > most {
		t.Errorf("%.0f allocations for %d names", allocations, len(params))
	}
	params[17].Name = []byte("name.200")
	auth.Sort(params)
	if err := refuseDuplicates(params); fmt.Sprint(err) != "(10310)error: parameter name_200 key format error" {
		t.Error(err)
	}
}
