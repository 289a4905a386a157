package httpapi

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestTopicAnswers checks the successful answer of every action on topics and subscriptions to the byte (http-api.md 7.3).
func TestTopicAnswers(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=q")
	r.want(r.do("CreateTopic", "topicName=News"), `{"code":0,"message":"","requestId":"1","topicId":"topic-00000002"}`)
	r.want(r.do("CreateTopic", "topicName=routes", "filterType=2", "maxMsgSize=1048576", "msgRetentionSeconds=60", "trace=true"), `{"code":0,"message":"","requestId":"1","topicId":"topic-00000003"}`)
	r.want(r.do("ListTopic"), `{"code":0,"message":"","requestId":"1","totalCount":2,"topicList":[{"topicId":"topic-00000002","topicName":"News"},{"topicId":"topic-00000003","topicName":"routes"}]}`)
	r.want(r.do("ListTopic", "searchWord=none"), `{"code":0,"message":"","requestId":"1","totalCount":0,"topicList":[]}`)
	r.want(r.do("ListTopic", "offset=1", "limit=50"), `{"code":0,"message":"","requestId":"1","totalCount":2,"topicList":[{"topicId":"topic-00000003","topicName":"routes"}]}`)
	r.want(r.do("GetTopicAttributes", "topicName=news"), `{"code":0,"message":"","requestId":"1","msgCount":0,"maxMsgSize":65536,"msgRetentionSeconds":86400,"createTime":1700000000,"lastModifyTime":1700000000,"filterType":1}`)
	r.clock.Advance(time.Second)
	r.want(r.do("SetTopicAttributes", "topicName=routes", "maxMsgSize=2048"), success)
	r.want(r.do("GetTopicAttributes", "topicName=routes"), `{"code":0,"message":"","requestId":"1","msgCount":0,"maxMsgSize":2048,"msgRetentionSeconds":60,"createTime":1700000000,"lastModifyTime":1700000001,"filterType":2}`)

	r.want(r.do("ListSubscriptionByTopic", "topicName=news"), `{"code":0,"message":"","requestId":"1","totalCount":0,"subscriptionList":[]}`)
	r.want(r.do("Subscribe", "topicName=news", "subscriptionName=Sub", "protocol=HTTP", "endpoint=https://example.com/hook?a=1"), `{"code":0,"message":"","requestId":"1","subscriptionId":"subsc-00000004"}`)
	r.want(r.do("Subscribe", "topicName=routes", "subscriptionName=to-q", "protocol=Queue", "endpoint=q", "bindingKey.0=a.*", "bindingKey.1=#.z"), `{"code":0,"message":"","requestId":"1","subscriptionId":"subsc-00000005"}`)
	r.want(r.do("ListSubscriptionByTopic", "topicName=news", "searchWord=u", "offset=0", "limit=100"), `{"code":0,"message":"","requestId":"1","totalCount":1,"subscriptionList":[{"subscriptionId":"subsc-00000004","subscriptionName":"Sub","protocol":"http","endpoint":"https://example.com/hook?a=1"}]}`)
	r.want(r.do("GetSubscriptionAttributes", "topicName=news", "subscriptionName=sub"), `{"code":0,"message":"","requestId":"1","topicOwner":"alice","msgCount":0,"protocol":"http","protocal":"http","endpoint":"https://example.com/hook?a=1","notifyStrategy":"EXPONENTIAL_DECAY_RETRY","notifyContentFormat":"JSON","createTime":1700000001,"lastModifyTime":1700000001,"filterTag":[],"filterTags":[],"bindingKey":[],"bindindKey":[]}`)
	r.want(r.do("GetSubscriptionAttributes", "topicName=routes", "subscriptionName=to-q"), `{"code":0,"message":"","requestId":"1","topicOwner":"alice","msgCount":0,"protocol":"queue","protocal":"queue","endpoint":"q","notifyStrategy":"EXPONENTIAL_DECAY_RETRY","notifyContentFormat":"SIMPLIFIED","createTime":1700000001,"lastModifyTime":1700000001,"filterTag":[],"filterTags":[],"bindingKey":["a.*","#.z"],"bindindKey":["a.*","#.z"]}`)

	r.want(r.do("PublishMessage", "topicName=routes", "msgBody=x", "routingKey=a.b"), `{"code":0,"message":"","requestId":"1","msgId":"4503599627395072"}`)
	r.want(r.do("BatchPublishMessage", "topicName=routes", "msgBody.1=y", "msgBody.2=z", "routingKey=z"), `{"code":0,"message":"","requestId":"1","msgList":[{"msgId":"4503599627399168"},{"msgId":"4503599627403264"}]}`)
	for i, body := range []string{"x", "y", "z"} {
		r.want(r.do("ReceiveMessage", "queueName=q"), fmt.Sprintf(`{"code":0,"message":"","requestId":"1","msgBody":"%s","msgId":"%d","receiptHandle":"%d","enqueueTime":1700000001,"firstDequeueTime":1700000001,"nextVisibleTime":1700000031,"dequeueCount":1}`, body, 4503599627395072+4096*i, 9+i))
	}
	r.ok("PublishMessage", "topicName=news", "msgBody=waits", "msgTag.1=any")
	r.want(r.do("GetTopicAttributes", "topicName=news"), `{"code":0,"message":"","requestId":"1","msgCount":1,"maxMsgSize":65536,"msgRetentionSeconds":86400,"createTime":1700000000,"lastModifyTime":1700000000,"filterType":1}`)

	r.clock.Advance(time.Second)
	r.want(r.do("SetSubscriptionAttributes", "topicName=news", "subscriptionName=sub", "notifyStrategy=BACKOFF_RETRY", "notifyContentFormat=CLOUDEVENTS", "filterTag.1=red", "filterTag.2=蓝"), success)
	r.want(r.do("GetSubscriptionAttributes", "topicName=news", "subscriptionName=sub"), `{"code":0,"message":"","requestId":"1","topicOwner":"alice","msgCount":1,"protocol":"http","protocal":"http","endpoint":"https://example.com/hook?a=1","notifyStrategy":"BACKOFF_RETRY","notifyContentFormat":"CLOUDEVENTS","createTime":1700000001,"lastModifyTime":1700000002,"filterTag":["red","蓝"],"filterTags":["red","蓝"],"bindingKey":[],"bindindKey":[]}`)
	r.want(r.do("ClearSubscriptionFilterTags", "topicName=news", "subscriptionName=sub"), success)
	if answer := r.ok("GetSubscriptionAttributes", "topicName=news", "subscriptionName=sub"); !strings.Contains(answer, `"filterTag":[],"filterTags":[]`) {
		t.Errorf("tags are not cleared: %s", answer)
	}
	r.want(r.do("TestSubscription", "topicName=news", "subscriptionName=sub", "msgBody=<hé\n>"), `{"code":0,"message":"","requestId":"1","taken":true,"reason":"","status":200,"tookMilliseconds":3,"sent":"POST / HTTP/1.1\n\n<hé\n>","advice":""}`)
	if answer := r.ok("TestSubscription", "topicName=news", "subscriptionName=sub"); !strings.Contains(answer, "This is a test of subscription sub of topic news.") {
		t.Errorf("a test without a body does not say what it is: %s", answer)
	}
	r.ok("Subscribe", "topicName=news", "subscriptionName=moved", "protocol=http", "endpoint=http://bad.example.com")
	r.want(r.do("TestSubscription", "topicName=news", "subscriptionName=moved", "msgBody=x"), `{"code":0,"message":"","requestId":"1","taken":false,"reason":"status","status":302,"tookMilliseconds":3,"sent":"POST / HTTP/1.1\n\nx","advice":"Redirects are not followed."}`)
	r.want(r.do("Unsubscribe", "topicName=news", "subscriptionName=moved"), success)
	r.want(r.do("QueryTopicRoute", "topicName=news"), `{"code":0,"message":"","requestId":"1","addr":["127.0.0.1:7671"]}`)
	r.want(r.do("Unsubscribe", "topicName=news", "subscriptionName=SUB"), success)
	r.want(r.do("DeleteTopic", "topicName=NEWS"), success)
	r.want(r.do("ListTopic"), `{"code":0,"message":"","requestId":"1","totalCount":1,"topicList":[{"topicId":"topic-00000003","topicName":"routes"}]}`)
}

// TestTopicClients: whole requests as the published clients make them, signatures by another implementation, in the order
// in which they are sent.
func TestTopicClients(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=orders")
	for _, c := range []struct{ name, path, contentType, body, answer string }{
		{"Python creates a topic", "/v2/index.php", "",
			"Action=CreateTopic&Nonce=2889712707386595659&Timestamp=1700000000&RequestClient=SDK_Python_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&filterType=1&maxMsgSize=65536&Signature=fis9kasJYdWm2h3zuWp5q9eTyNo%3D",
			`{"code":0,"message":"","requestId":"1","topicId":"topic-00000002"}`},
		{"Python subscribes a queue with its default format", "/v2/index.php", "",
			"Action=Subscribe&Nonce=2889712707386595659&Timestamp=1700000000&RequestClient=SDK_Python_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&subscriptionName=py&notifyStrategy=EXPONENTIAL_DECAY_RETRY&notifyContentFormat=JSON&endpoint=orders&protocol=queue&filterTag.1=%40red&filterTag.2=blue+moon&Signature=NXdzvV5qavpevoMA2BOqhAQP0Ek%3D",
			`{"code":0,"message":"","requestId":"1","subscriptionId":"subsc-00000003"}`},
		{"Python publishes what begins with @", "/v2/index.php", "",
			"Action=PublishMessage&Nonce=2889712707386595659&Timestamp=1700000000&RequestClient=SDK_Python_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&msgBody=%40all&routingKey=&msgTag.1=%40red&Signature=%2Buayhvm7Sf%2F60EANkqOmieD0lVM%3D",
			`{"code":0,"message":"","requestId":"1","msgId":"4503599627386880"}`},
		{"Python publishes a batch", "/v2/index.php", "",
			"Action=BatchPublishMessage&Nonce=2889712707386595659&Timestamp=1700000000&RequestClient=SDK_Python_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&routingKey=&msgBody.1=a+b&msgBody.2=%40b&msgTag.1=blue+moon&Signature=LwxFNaXvpxigc%2BkMCHe%2BtPx5Qpo%3D",
			`{"code":0,"message":"","requestId":"1","msgList":[{"msgId":"4503599627390976"},{"msgId":"4503599627395072"}]}`},
		{"PHP subscribes with its spelling of the keys", "/v2/index.php", "application/x-www-form-urlencoded",
			"Action=Subscribe&Nonce=31337&Timestamp=1700000000&RequestClient=SDK_PHP_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&subscriptionName=php&notifyStrategy=BACKOFF_RETRY&notifyContentFormat=JSON&endpoint=orders&protocol=queue&bindindKey.1=a.*&bindindKey.2=%23&Signature=23s2XvGkEZ7PYTMsZx2KY2K4rt0%3D",
			`{"code":0,"message":"","requestId":"1","subscriptionId":"subsc-00000007"}`},
		{"PHP changes it, protocol and endpoint too", "/v2/index.php", "application/x-www-form-urlencoded",
			"Action=SetSubscriptionAttributes&Nonce=31337&Timestamp=1700000000&RequestClient=SDK_PHP_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&subscriptionName=php&notifyStrategy=EXPONENTIAL_DECAY_RETRY&notifyContentFormat=SIMPLIFIED&endpoint=http%3A%2F%2Felsewhere&protocol=http&bindindKey.1=b&Signature=eGC3qNyggm5faM%2FKRmg1WhXOuw8%3D",
			success},
		{"PHP reads it", "/v2/index.php", "application/x-www-form-urlencoded",
			"Action=GetSubscriptionAttributes&Nonce=31337&Timestamp=1700000000&RequestClient=SDK_PHP_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&subscriptionName=php&Signature=w%2FmfK4DRo4TuyZL%2Bu5B4IB1Fhhc%3D",
			`{"code":0,"message":"","requestId":"1","topicOwner":"alice","msgCount":0,"protocol":"queue","protocal":"queue","endpoint":"orders","notifyStrategy":"EXPONENTIAL_DECAY_RETRY","notifyContentFormat":"SIMPLIFIED","createTime":1700000000,"lastModifyTime":1700000000,"filterTag":[],"filterTags":[],"bindingKey":["b"],"bindindKey":["b"]}`},
		{"C++ subscribes with lists from 0", "/v2/index.php", "application/x-www-form-urlencoded",
			"Action=Subscribe&Nonce=846930886&Timestamp=1700000000&RequestClient=SDK_CPP_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA256&topicName=news&subscriptionName=cpp&notifyStrategy=BACKOFF_RETRY&notifyContentFormat=JSON&endpoint=orders&protocol=queue&filterTag.0=blue%20moon&filterTag.1=green&Signature=Bbn82RmfilSBbNd%2FwGJFnKxJCxzK%2F6lpaYS8wtmMj2c%3D",
			`{"code":0,"message":"","requestId":"1","subscriptionId":"subsc-00000008"}`},
		{"C++ changes it with lists from 1 and empty words", "/v2/index.php", "application/x-www-form-urlencoded",
			"Action=SetSubscriptionAttributes&Nonce=846930886&Timestamp=1700000000&RequestClient=SDK_CPP_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA256&topicName=news&subscriptionName=cpp&notifyStrategy=&notifyContentFormat=&filterTag.1=green&Signature=vWQiWEE4%2FiaS3ev%2FhsqxX9JhUoVAenCM0LCjRHWrYDc%3D",
			success},
		{"C++ publishes", "/v2/index.php", "application/x-www-form-urlencoded",
			"Action=PublishMessage&Nonce=846930886&Timestamp=1700000000&RequestClient=SDK_CPP_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA256&topicName=news&msgBody=c%20%2B%20p&routingKey=&msgTag.1=green&Signature=XqGyOGaNHurzD8%2FszoiL666wul%2BV%2BNbyrCLLaITbhoQ%3D",
			`{"code":0,"message":"","requestId":"1","msgId":"4503599627407360"}`},
		{"Java subscribes with a key to a topic of tags", "/", "*/*;charset=utf-8",
			"Action=Subscribe&Nonce=1804289383&Timestamp=1700000000&RequestClient=SDK_JAVA_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&subscriptionName=java&protocol=queue&endpoint=orders&notifyStrategy=BACKOFF_RETRY&notifyContentFormat=JSON&bindingKey.1=*.cn&Signature=eQNGdP4SH3WJeEtJKqey6DSyJC4%3D",
			`{"code":0,"message":"","requestId":"1","subscriptionId":"subsc-0000000a"}`},
		{"Java clears tags in its own case", "/", "*/*;charset=utf-8",
			"Action=ClearSUbscriptionFIlterTags&Nonce=1804289383&Timestamp=1700000000&RequestClient=SDK_JAVA_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&subscriptionName=cpp&Signature=CVTTHHqINT05jYKwzF038q40iu0%3D",
			success},
		{"Java publishes with a key to a topic of tags", "/", "*/*;charset=utf-8",
			"Action=PublishMessage&Nonce=1804289383&Timestamp=1700000000&RequestClient=SDK_JAVA_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&msgBody=j&routingKey=any.cn&Signature=S75B8w%2Bf2%2BPeVPEhXrPz87NifCY%3D",
			`{"code":0,"message":"","requestId":"1","msgId":"4503599627415552"}`},
		{"Java lists without an offset", "/", "*/*;charset=utf-8",
			"Action=ListSubscriptionByTopic&Nonce=1804289383&Timestamp=1700000000&RequestClient=SDK_JAVA_1.3&SecretId=AKIDtest&SignatureMethod=HmacSHA1&topicName=news&limit=2&searchWord=p&Signature=1sLS3qDNqIl0dXXZhZTAjFX9rq8%3D",
			`{"code":0,"message":"","requestId":"1","totalCount":3,"subscriptionList":[{"subscriptionId":"subsc-00000003","subscriptionName":"py","protocol":"queue","endpoint":"orders"},{"subscriptionId":"subsc-00000007","subscriptionName":"php","protocol":"queue","endpoint":"orders"}]}`},
		{"Go publishes a batch from 0", "/", "application/x-www-form-urlencoded",
			"Action=BatchPublishMessage&Nonce=4039455774&Timestamp=1700000000&RequestClient=SDK_GO_1.2.0&SecretId=AKIDtest&SignatureMethod=HmacSHA1&clientRequestId=77&topicName=news&msgBody.0=g&msgBody.1=o&msgTag.0=green&routingKey=&Signature=SVaJL%2B8jTQAuG%2F1MeDwrxUWJpf0%3D",
			`{"code":0,"message":"","requestId":"1","clientRequestId":77,"msgList":[{"msgId":"4503599627419648"},{"msgId":"4503599627423744"}]}`},
		{"Go asks for the route", "/", "application/x-www-form-urlencoded",
			"Action=QueryTopicRoute&Nonce=4039455774&Timestamp=1700000000&RequestClient=SDK_GO_1.2.0&SecretId=AKIDtest&SignatureMethod=HmacSHA1&clientRequestId=77&topicName=news&Signature=SdeLHsVClKGAwGZQT2NeA2ehk10%3D",
			`{"code":0,"message":"","requestId":"1","clientRequestId":77,"addr":["127.0.0.1:7671"]}`},
	} {
		request := httptest.NewRequest("POST", c.path, strings.NewReader(c.body))
		request.Host = testHost
		if c.contentType != "" {
			request.Header.Set("Content-Type", c.contentType)
		}
		if got := r.serve(request); got != c.answer {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.answer)
		}
	}
	var bodies []string
	for _, part := range strings.Split(r.ok("BatchReceiveMessage", "queueName=orders", "numOfMsg=16"), `{"msgBody":"`)[1:] {
		body, _, _ := strings.Cut(part, `"`)
		bodies = append(bodies, body)
	}
	// PHP's subscription has no tags, C++'s none any more from Java's clearing on, and Java's none.
	if got, want := strings.Join(bodies, "|"), "@all|a b|@b|c + p|c + p|j|j|j|g|g|g|o|o|o"; got != want {
		t.Errorf("received %s, want %s", got, want)
	}
}

// TestAtRule: a value that begins with '@' may be missing from the signature of a POST only where it is content.
func TestAtRule(t *testing.T) {
	r := newRig(t)
	r.ok("CreateTopic", "topicName=news")
	r.ok("CreateQueue", "queueName=q")
	r.ok("Subscribe", "topicName=news", "subscriptionName=s", "protocol=queue", "endpoint=q")
	signed := sign("POST", testHost, "/", fields("Action=PublishMessage", "topicName=news", "msgBody=x")).Encode()
	for _, p := range []string{"msgTag.1=%40a", "routingKey=%40a", "filterTag.1=%40a", "bindingKey.1=%40a", "bindindKey.1=%40a"} {
		if answer := r.post(signed + "&" + p); !strings.HasPrefix(answer, `{"code":0,`) {
			t.Errorf("%s: %s", p, answer)
		}
	}
	for _, p := range []string{"subscriptionName=%40a", "endpoint=%40a", "pushSecret=%40a", "agent=%40a", "topicNames=%40a", "msgTag.1=a"} {
		if answer := r.post(signed + "&" + p); answer != refusal("4100", "(10030)authentication failed") {
			t.Errorf("%s: %s", p, answer)
		}
	}
}

// testCA is a self-signed certificate.
const testCA = `-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUAww3id/EwSI4epUHCnj/+07RWU4wCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjcwMzQwMzlaGA8yMTI2MTEwMzAzNDAz
OVowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKv2
Rgfd15duUPDbmLINwDP50oLwFYWknm8XgO0wIacS/McSKVunFdROtnC7BRps7pSD
UJKAW9MovRKVfPJu/I+jUzBRMB0GA1UdDgQWBBSmntpesGHmtj2W0CtmIQPAVcUX
eDAfBgNVHSMEGDAWgBSmntpesGHmtj2W0CtmIQPAVcUXeDAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIBXRu1AY9Ay39xzEsp94KAqV8EmtuEACqKec
juFGaIdFAiEAriDzcIe6pTYGf7WsZ8WtHFpfjgPUhaasv/wZBCug1r0=
-----END CERTIFICATE-----
`

// TestPushSettings: what subscriptions have beyond the published service comes back, but for the secret, and only where
// it is set.
func TestPushSettings(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=Failed")
	r.ok("CreateTopic", "topicName=news")
	const plain = `{"code":0,"message":"","requestId":"1","topicOwner":"alice","msgCount":0,"protocol":"http","protocal":"http","endpoint":"http://h/","notifyStrategy":"EXPONENTIAL_DECAY_RETRY","notifyContentFormat":"JSON","createTime":1700000000,"lastModifyTime":1700000000,"filterTag":[],"filterTags":[],"bindingKey":[],"bindindKey":[]`
	get := func(name string) string {
		return r.do("GetSubscriptionAttributes", "topicName=news", "subscriptionName="+name)
	}
	r.ok("Subscribe", "topicName=news", "subscriptionName=plain", "protocol=http", "endpoint=http://h/", "pushSecret=", "rateLimit=0", "concurrency=0", "ordered=false", "paused=0", "deadLetterQueueName=", "ca=", "agent=")
	r.want(get("plain"), plain+"}")
	r.ok("Subscribe", "topicName=news", "subscriptionName=full", "protocol=http", "endpoint=http://h/", "pushSecret=0123456789abcdef", "rateLimit=25", "concurrency=8", "ordered=true", "paused=1",
		"deadLetterQueueName=failed", "ca="+testCA, "agent=east-1")
	full := plain + `,"pushSigned":true,"rateLimit":25,"concurrency":8,"ordered":true,"paused":true,"deadLetterQueueName":"Failed","ca":` + string(appendString(nil, testCA)) + `,"agent":"east-1","agents":0}`
	r.want(get("full"), full)
	r.ok("SetSubscriptionAttributes", "topicName=news", "subscriptionName=full", "notifyContentFormat=")
	r.want(get("full"), full)
	r.ok("SetSubscriptionAttributes", "topicName=news", "subscriptionName=full", "paused=false", "deadLetterQueueName=", "ca=")
	r.want(get("full"), plain+`,"pushSigned":true,"rateLimit":25,"concurrency":8,"ordered":true,"agent":"east-1","agents":0}`)
	r.ok("SetSubscriptionAttributes", "topicName=news", "subscriptionName=full", "pushSecret=", "rateLimit=0", "concurrency=0", "ordered=0", "agent=")
	r.want(get("full"), plain+"}")
}
