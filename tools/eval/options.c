/*
 * options.c - the flags of vlcache-eval, and --help.
 */
#include "eval/options.h"

#include <stdio.h>

#include "common/environment.h"
#include "common/exit.h"
#include "common/flag.h"
#include "common/template.h"

#define FIELD(member) offsetof(options, member)
enum { MOST = 1 << 20, MOST_PIXELS = 1 << 28 };

/* clang-format off */
static const flag flags[] = {
    {FLAG_GROUP, .name = "What is asked"},
    {FLAG_TEXT, 'm', "model", .argument = "DIR", .offset = FIELD(model),
     .help = "Hugging Face folder of a vision-language model; the one that ships\nwhere it is not given"},
    {FLAG_TEXT, .name = "data", .argument = "FILE.jsonl", .offset = FIELD(data),
     .help = "the questions, one JSON object a line (below); the 160 that ship, for the\nmodel that ships, where it is not given"},
    {FLAG_WHOLE, .name = "limit", .argument = "N", .offset = FIELD(limit), .high = MOST,
     .help = "at most N questions of each task, the first ones; 0: all"},
    {FLAG_WHOLE, 'n', "predict", .also = "n-predict", .argument = "MAX", .offset = FIELD(predict), .low = 1, .high = MOST,
     .help = "most tokens of an answer whose line has no max_tokens"},
    {FLAG_TEXT, .name = "chat-template", .argument = "NAME|FILE", .offset = FIELD(chat_template),
     .read = template_read, .names = template_names,
     .help = "how questions and answers are put; the checkpoint's own where it is not\ngiven; a file with a template in Jinja, or one of"},
    {FLAG_TEXT, .name = "system", .argument = "TEXT", .offset = FIELD(system),
     .help = "what the model is told before each question, where its template has a\nplace for that"},
    {FLAG_WHOLE, .name = "min-pixels", .argument = "N", .offset = FIELD(min_pixels), .high = MOST_PIXELS,
     .help = "resize pictures to at least N pixels, where the model takes any size\n(Qwen-VL); 0: as the checkpoint says"},
    {FLAG_WHOLE, .name = "max-pixels", .argument = "N", .offset = FIELD(max_pixels), .high = MOST_PIXELS,
     .help = "the same, at most N: fewer pixels are fewer tokens; 0: as the checkpoint\nsays"},
    {FLAG_SWITCH, .name = "strict", .offset = FIELD(strict),
     .help = "stop at a line that is wrong or a picture that cannot be read (exit\ncode 2), instead of naming it and going on"},

    {FLAG_GROUP, .name = "What is compared"},
    {FLAG_TEXT, .name = "policy", .argument = "A,B,...", .offset = FIELD(policies),
     .help = "policies, each perhaps with axes: vlcache@pooling=grid:1x5,defer=4; all\nof the library's where it is not given. full is always compared"},
    {FLAG_TEXT, .name = "budget", .argument = "X,Y,...", .offset = FIELD(budgets),
     .help = "shares of the full cache to keep, of its bytes or rows (--share-of),\neach above 0 and at most 1"},
    {FLAG_CHOICE, .name = "share-of", .argument = "UNIT", .offset = FIELD(share_of), .choices = "bytes|rows",
     .help = "what budgets are shares of: bytes, the same for every policy, with all\nthat it keeps counted; or rows, rounded as the papers do"},

    {FLAG_GROUP, .name = "What comes out"},
    {FLAG_CHOICE, 'o', "output", .argument = "FORMAT", .offset = FIELD(format), .choices = "md|csv|json",
     .help = "tables on standard output: md, csv or json"},
    {FLAG_TEXT, .name = "results", .argument = "FILE", .offset = FIELD(results),
     .help = "keep every answer here, line by line; an existing file is gone on\n"
             "with, if it is of the same model, data and options"},
    {FLAG_TEXT, .name = "report", .argument = "OUT.html", .offset = FIELD(report),
     .help = "a report in one file, with charts and pictures; asks for the studies\nablation, threshold and probe (below) too"},
    {FLAG_TEXT, .name = "study", .argument = "A,B,...", .offset = FIELD(study),
     .help = "studies that are asked beside the policies (below), all or none"},
    {FLAG_TEXT, .name = "fit", .argument = "OUT", .offset = FIELD(fit),
     .help = "budgets that suit these questions, into a file: of layers, learned from the\nstudy layers, for --policy vlcache@allocation=layers:OUT; of heads' bits,\nfrom the study spectrum, for --policy vlcache+@allocation=heads:OUT"},
    {FLAG_SEED, .name = "seed", .argument = "N", .offset = FIELD(seed),
     .help = "of the resampling behind the confidence intervals"},
    {FLAG_SWITCH, .name = "quiet", .offset = FIELD(quiet),
     .help = "no progress bar and no summary on standard error"},

    {FLAG_GROUP, .name = "Device"},
    {FLAG_TEXT, .name = "device", .argument = "SEL", .offset = FIELD(device),
     .help = "index, or part of the name of a device or platform (vlcache-run\n--list-devices); the first where it is not given"},
    {FLAG_DTYPE, .name = "dtype", .argument = "T", .offset = FIELD(dtype),
     .help = "how weights and KV rows are stored: auto (as in the checkpoint), bf16,\nf16 or f32"},
    {FLAG_SWITCH, .name = "no-mmap", .offset = FIELD(no_mmap),
     .help = "reads all weights into memory of its own, those too that a processor would\nread in their files"},
    {FLAG_WHOLE, .name = "jobs", .argument = "N", .offset = FIELD(jobs), .low = 1, .high = JOBS_MAX,
     .help = "questions asked at a time, each by a process of its own that loads the\n"
             "model once more: pays where a small model leaves a GPU idle and N times\n"
             "its memory is there; on a CPU, whose cores one job takes, 1 is best"},

    {FLAG_GROUP, .name = "Other"},
    {FLAG_ACTION, 'h', "help", .offset = FIELD(action), .low = ACTION_HELP, .help = "this text"},
    {FLAG_ACTION, .name = "version", .offset = FIELD(action), .low = ACTION_VERSION, .help = "version of tool and library"},
    {FLAG_END, .name = NULL},
};
/* clang-format on */

static const char usage[] =
    "vlcache-eval " VLCACHE_VERSION
    ": what a small KV cache costs in quality, measured on your questions.\n"
    "\n"
    "Usage:\n"
    "  vlcache-eval [-m DIR] [--data FILE.jsonl] [--policy A,B,...] [--budget X,Y,...]\n"
    "               [-o md|csv|json] [--results FILE] [--report OUT.html]\n";

static const char rest[] =
    "\n"
    "Data: one JSON object a line\n"
    "  {\"id\": \"p1\", \"image\": \"p1.png\", \"question\": \"What is the total?\", \"answers\": "
    "[\"12.50\"],\n"
    "   \"metric\": \"anls\"}\n"
    "  image       a picture, or images: [...]; paths are relative to the file. Pictures stand before the\n"
    "              question, or where it has as many <image> marks\n"
    "  video       in place of pictures: a file, or an array of frames, fps of which are a second [1];\n"
    "              frames: how many of them are seen, at regular distances [as the model has it]\n"
    "  question    with answers, every accepted one; or turns: [{\"question\", \"answers\"}, ...], asked "
    "one\n"
    "              after another on one compressed cache; its score is the mean over them\n"
    "  metric      anls      ANLS, threshold 0.5 (DocVQA)\n"
    "              exact     equal, but for case and white space\n"
    "              relaxed   numbers within 5%, everything else exact (ChartQA)\n"
    "              cider     CIDEr-D, document frequencies from the references of the task (COCO)\n"
    "              contains  an accepted answer occurs in the answer, case put aside (OCRBench)\n"
    "              likelihood  of a token of the first answer, which the model is told\n"
    "  id, task, max_tokens   may be left out; scores are put together by task and metric\n"
    "  raw         true: the question is the prompt as it stands, and needs no picture\n"
    "  form        an extended regular expression that whole answers match, for the report\n"
    "\n"
    "Axes of a policy, behind @\n"
    "  allocation, scoring, selection, pooling, summary, storage, candidates, defer, threshold, recent,\n"
    "  sinks (as in vlcache/compress.h; allocation=layers:FILE and heads:FILE read shares from a file), and\n"
    "  label, the name that tables give it; recall=host: in questions of several turns, each has all rows "
    "of\n"
    "  the turns before back from the host's memory; stream=N: a video is read N frames at a time, and the\n"
    "  cache compressed between\n"
    "\n"
    "Scores are 100 times the metric, so CIDEr-D is on the scale of the literature. Retention is the score "
    "over\n"
    "that of the full cache. Intervals are 95% ones, of 2,000 resamplings of the questions (the same for "
    "every\n"
    "policy, so differences between policies are surer than the intervals look). Answers are greedy; a run\n"
    "on the same device gives the same output to the byte, whatever --jobs is; only the lines of --results\n"
    "stand there as they were finished.\n"
    "\n"
    "Studies, each at the budget nearest to 10%\n"
    "  ablation    vlcache with allocation uniform or sparsity, and scoring post-vision or accumulated\n"
    "  threshold   vlcache with p = .001, .003, .01, .03 and .1\n"
    "  probe       the full cache's answer decoded once more, to see what it attends to at every step;\n"
    "              of a talk, all its turns\n"
    "  layers      each layer alone compressed, and all but it: two answers a layer\n"
    "  spectrum    dimensions that hold 90% of the variance of keys and values, and bits given: two answers\n"
    "  visual      which share of the kept rows and bits is visual, by layer; and vlcache where only\n"
    "              visual rows may go, or only text: two answers\n"
    "  A report asks for the first three: at most 8 further answers a question, fewer where --policy names\n"
    "  some of them; csv and json list them too. --results remembers what was asked, and a report of it\n"
    "  has those sections. Long answers, coherence, and tasks whose names begin with rare- beside those\n"
    "  with common- have sections without asking for more.\n" ENVIRONMENT_HELP
    "\n"
    "Exit codes\n"
    "  0     done; lines that were skipped are counted on standard error\n"
    "  1     usage: a flag, a policy, a budget; --results of another run, of other pictures, or of no run\n"
    "  2     a file: data, picture (with --strict), model; output that cannot be written; a --results file\n"
    "        that another run is at, or that is damaged\n"
    "  3     no such device, or the device or its driver failed; a job that was ended from outside\n"
    "  4     out of host or device memory\n"
    "  130   Ctrl-C: what is answered stays in --results\n"
    "\n"
    "Examples\n"
    "  vlcache-eval --limit 2 --policy vlcache,vlcache+,h2o --budget .1\n"
    "  vlcache-eval --data questions.jsonl --policy vlcache,h2o --budget .05,.1,.2\n"
    "  vlcache-eval -m llava-1.5-7b-hf --data docvqa.jsonl --results docvqa.results --report docvqa.html\n"
    "  vlcache-eval --data q.jsonl --budget .1 --policy \\\n"
    "    vlcache,vlcache@allocation=uniform,h2o,h2o@allocation=sparsity\n";

static void set_defaults(options *o) {
    *o = (options){
        .predict = 256, .jobs = 1, .format = "md", .share_of = "bytes", .budgets = ".01,.05,.1,.2,.4,1"};
}

void help_print(void) {
    options defaults;
    set_defaults(&defaults);
    fputs(usage, stdout);
    flags_print(flags, &defaults);
    fputs(rest, stdout);
}

int options_parse(int argc, char **argv, options *o) {
    set_defaults(o);
    int code = flags_parse(flags, argc, argv, o);
    if (code || o->action != ACTION_EVALUATE) return code;
    code = variants_parse(o->policies, o->budgets, &o->variants);
    if (!code) studies_begin(&o->variants, &o->studies);
    return code;
}

void options_release(options *o) {
    studies_release(&o->studies);
    variants_release(&o->variants);
}
