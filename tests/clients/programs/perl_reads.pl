# Reads and a write as a small script does them: perl_reads.pl URL TOKEN LIBRARY, which is LWP::UserAgent or HTTP::Tiny
use strict;
use warnings;
use JSON::PP;

my ($url, $token, $library) = @ARGV;
eval "require $library; 1" or die $@;
my $json = JSON::PP->new->utf8->canonical;
my $escaped = $token =~ s/\|/%7C/gr;
my $agent = $library->new(timeout => 30);

sub tell_of {
    my ($method, $target, $headers, $body) = @_;
    my ($status, $type, $text);
    if ($library eq 'LWP::UserAgent') {
        my $reply = $agent->request(HTTP::Request->new($method, $target, [%$headers], $body));
        ($status, $type, $text) = ($reply->code, scalar $reply->header('Content-Type'), $reply->decoded_content(charset => 'none'));
    } else {
        my $reply = $agent->request($method, $target, {headers => $headers, defined $body ? (content => $body) : ()});
        ($status, $type, $text) = ($reply->{status}, $reply->{headers}{'content-type'}, $reply->{content});
    }
    my $value = eval { $json->decode($text) } or die "$status $text\n";
    print $json->encode([$status + 0, $type, $value]), "\n";
    return $value;
}

my $page = tell_of('GET', "$url/v25.0/act_1/campaigns?limit=4&access_token=$escaped", {});
while (my $next = $page->{paging}{next}) {
    $page = tell_of('GET', $next =~ s/\|/%7C/gr, {});
}
tell_of('GET', "$url/v25.0/1001", {Authorization => "Bearer $token"}) for 1 .. 2;
tell_of('GET', "$url/v25.0/404001?access_token=$escaped", {});
my %form = ('Content-Type' => 'application/x-www-form-urlencoded');
tell_of('POST', "$url/v25.0/1001", \%form, "name=new&access_token=$escaped");
