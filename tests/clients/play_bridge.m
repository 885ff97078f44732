% Plays float32 poses to a bridge, frame by frame, and writes the probabilities of its answers: see test_clients.py.
pkg load zeromq
arguments = argv();
[frames, answers, stream, animals, keypoints, poses, probs] = arguments{end - 6:end};
n_animals = numel(strsplit(animals, ',')); n_points = numel(strsplit(keypoints, ','));
file = fopen(poses, 'r'); values = fread(file, inf, 'single=>single'); fclose(file);
values = reshape(values, 3, n_points, n_animals, []);
client = rtseg_bridge('open', frames, answers, stream);
assert(strcmp(client.heads.task1{1}, 'attack'));
file = fopen(probs, 'w');
for t = 1:size(values, 4)
  client = rtseg_bridge('send', client, permute(values(:, :, :, t), [3 2 1]));
  do
    answer = rtseg_bridge('receive', client, 60000);
  until ~isfield(answer, 'type')
  assert(answer.seq == t - 1);
  assert(any(strcmp(answer.label.task1, client.heads.task1)));
  fwrite(file, answer.probs, 'single');
end
fclose(file);
rtseg_bridge('close', client);
